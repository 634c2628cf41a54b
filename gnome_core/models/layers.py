"""Layers of message-passing networks: swish with a trainable slope, weighted segment sums."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn

Array = jax.Array | np.ndarray  # batches are built with numpy and traced by jax


class Swish(nn.Module):
    """x * sigmoid(beta * x), one beta per feature if trainable (Ramachandran et al., arXiv:1710.05941)."""

    trainable: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.trainable:
            return nn.silu(x)
        beta = self.param("beta", nn.initializers.ones, (x.shape[-1],))
        return x * nn.sigmoid(beta * x)


def segment_sum(values: Array, segments: Array, n_segments: int) -> jax.Array:
    """Sum rows of one segment; segments must ascend. (r, f), (r,) -> (n_segments, f)."""
    return jraph.segment_sum(values, segments, n_segments, indices_are_sorted=True)


def rows(values: Array, indices: Array) -> jax.Array:
    """values[indices] for indices known to be in bounds (batches are built so)."""
    return jnp.asarray(values).at[indices].get(mode="promise_in_bounds")


def product(features: jax.Array, kernel: jax.Array, precision: str) -> jax.Array:
    """(..., i) by (i, o), in float32 or with both rounded to bfloat16 and sums in the precision of the features."""
    if precision == "float32":
        return features @ kernel
    rounded = features.astype(precision), kernel.astype(precision)
    return jnp.matmul(*rounded, preferred_element_type=kernel.dtype)


def linear(features: int, use_bias: bool = False, name: str | None = None, dtype: str | None = None) -> nn.Dense:
    """A dense layer with fan-in scaled normal weights; `dtype` of its product, None = that of its input."""
    return nn.Dense(features, use_bias, dtype=dtype, kernel_init=nn.initializers.lecun_normal(), name=name)


def per_atom_mean(values: Array, multiplicities: Array, graphs: Array, n_atoms: Array) -> jax.Array:
    """Mean over the atoms of each graph of node values (n, f) -> (g, f); a mean keeps float32 safe for large cells."""
    return segment_sum(values * (multiplicities / rows(n_atoms, graphs))[:, None], graphs, n_atoms.shape[0])
