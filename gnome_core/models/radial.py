"""Gaussian bases of edge lengths and of other scalars."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def gaussian_basis(lengths: jax.Array | np.ndarray, n_basis: int, cutoff: float, width: float) -> jax.Array:
    """exp(-((r - r_k) / width)^2) for n_basis centres from 0.05 Å to the cutoff: (e,) -> (e, n_basis).

    GNoME's basis has 30 centres and width 0.5 Å. It has no envelope: energies jump as an edge crosses the cutoff, so
    no forces may be taken from it.
    """
    return gaussians(lengths, jnp.linspace(0.05, cutoff, n_basis), width)


def gaussians(values: jax.Array | np.ndarray, centres: jax.Array, width: float) -> jax.Array:
    """exp(-((x - c) / width)^2): (n,), (k,) -> (n, k)."""
    return jnp.exp(-jnp.square((values[:, None] - centres) / width))
