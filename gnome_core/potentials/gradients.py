"""Energies of atoms, forces and virials of a padded batch by one gradient over edge vectors."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from gnome_core.graphs.edges import EdgeBatch
from gnome_core.models.layers import Array, rows, segment_sum


class Prediction(NamedTuple):
    """atoms: (N,) eV, less the shifts of the elements; forces: (N, 3) eV/Å; virials: (G, 3, 3) eV, the derivative by
    strain; stress is virial / volume, tension positive."""

    atoms: jax.Array
    forces: jax.Array
    virials: jax.Array


def predict(network: nn.Module, variables: Any, batch: EdgeBatch) -> Prediction:
    """What the network says about every graph of the batch; differentiable by its parameters."""

    vectors = jnp.asarray(batch.vectors)
    gradient, atoms = edge_gradient(network, variables, batch, vectors)
    # The derivative by a strain s that takes every vector v to v + v s.
    outer = jnp.einsum("bei,bej->bij", vectors, gradient).reshape(-1, 9)
    virials = segment_sum(outer, rows(batch.graph, batch.receivers), len(batch.n_atoms)).reshape(-1, 3, 3)
    return Prediction(atoms, on_atoms(gradient, batch), (virials + virials.swapaxes(1, 2)) / 2)


def edge_gradient(
    network: nn.Module, variables: Any, batch: EdgeBatch, vectors: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradient of the batch's energy by `vectors`, (blocks, BLOCK, 3) eV/Å, and the energies of its atoms, (N,) eV."""

    def total(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
        atoms = cast(jax.Array, network.apply(variables, batch._replace(vectors=vectors)))
        return atoms.sum(), atoms

    return jax.grad(total, has_aux=True)(vectors)


def on_atoms(gradient: jax.Array, batch: EdgeBatch) -> jax.Array:
    """(N, 3) forces on the atoms, of a gradient by the vectors from senders to receivers."""
    n_atoms = len(batch.numbers)
    on_senders = jax.ops.segment_sum(gradient.reshape(-1, 3), jnp.asarray(batch.senders).reshape(-1), n_atoms)
    return on_senders - segment_sum(gradient.sum(1), batch.receivers, n_atoms)


def force_response(network: nn.Module, variables: Any, batch: EdgeBatch, direction: Array) -> jax.Array:
    """(N, 3) derivative of the forces as the atoms move along `direction` (N, 3): a product with minus the Hessian."""

    moves = rows(direction, batch.receivers)[:, None] - rows(direction, batch.senders)

    def work(vectors: jax.Array) -> jax.Array:
        return (edge_gradient(network, variables, batch, vectors)[0] * moves).sum()

    # A Hessian is symmetric, so the gradient of the work along the moves is the change of the gradient: two gradients,
    # as the messages' own one has no forward mode.
    return on_atoms(jax.grad(work)(jnp.asarray(batch.vectors)), batch)


@partial(jax.jit, static_argnums=0)
def predict_compiled(network: nn.Module, variables: Any, batch: EdgeBatch) -> Prediction:
    """`predict`, compiled once a network and batch shape."""
    return predict(network, variables, batch)
