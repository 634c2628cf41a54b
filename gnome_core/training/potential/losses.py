"""The loss of labelled frames, and the errors of a potential on them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gnome_core.models.layers import segment_sum
from gnome_core.potentials.gradients import Prediction
from gnome_core.training.potential.batches import FrameGraphs, Targets
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.networks import Network, predict_compiled
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA


def row_losses(training: PotentialTrainingConfig, errors: jax.Array) -> jax.Array:
    """(n,) loss of each of n rows of errors, mean over its components."""
    if training.loss == "l2":
        values = optax.losses.l2_loss(errors)
    else:
        values = optax.losses.huber_loss(errors, delta=training.huber_delta)
    return values.reshape(len(errors), -1).mean(1)


def batch_loss(training: PotentialTrainingConfig, prediction: Prediction, batch: Any, targets: Targets) -> jax.Array:
    """The training loss of one batch, without that on Hessian rows.

    With force_loss = "sum" it is Eq. 1 of the paper's Methods (Nature 624, 80, 2023): the mean over graphs of the loss
    on the energy per atom, and of the losses on force components summed over the atoms of a graph.
    """

    def mean(errors: jax.Array, weights: jax.Array | np.ndarray) -> jax.Array:
        return (row_losses(training, errors) * weights).sum() / jnp.maximum(weights.sum(), 1)

    n_graphs = len(batch.n_atoms)
    energy = segment_sum(prediction.atoms, batch.graph, n_graphs) / batch.n_atoms
    loss = training.energy_weight * mean(energy - targets.energy, targets.graph)
    loss += training.force_weight * _force_loss(training, prediction.forces - targets.forces, targets)
    if training.stress_weight:
        virial = prediction.virials / batch.n_atoms[:, None, None]
        loss += training.stress_weight * mean(virial - targets.virial, targets.virial_known)
    return loss


def _force_loss(training: PotentialTrainingConfig, errors: jax.Array, targets: Targets) -> jax.Array:
    """Of errors (N, 3) eV/Å."""
    total = (row_losses(training, errors) * targets.atom).sum()  # of means over the three components
    if training.force_loss == "sum":
        return errors.shape[1] * total / jnp.maximum(targets.graph.sum(), 1)
    return total / jnp.maximum(targets.atom.sum(), 1)


_batch_loss = jax.jit(batch_loss, static_argnums=0)


def frame_errors(
    network: Network, variables: dict, data: FrameGraphs, training: PotentialTrainingConfig
) -> dict[str, float]:
    """Mean absolute and root mean square errors, and the training loss, over all frames of `data`.

    energy_*: meV/atom; force_*: meV/Å by component; stress_*: GPa by component, where stresses are known.
    """
    energy, force, stress, loss = [], [], [], []
    for batch, targets, indices in data.batches(range(len(data.frames))):
        prediction = predict_compiled(network, variables, batch)
        atoms, forces, virials = (np.asarray(x, np.float64) for x in prediction)
        n = len(indices)
        sums = np.bincount(batch.graph, atoms, minlength=len(batch.n_atoms))[:n]
        energy.append(1e3 * (sums / data.n_atoms[indices] - data.energy[indices]))
        force.append(1e3 * (forces - targets.forces)[targets.atom > 0].ravel())
        volumes = np.array([data.frames.crystals[i].volume for i in indices])
        known = targets.virial_known[:n] > 0
        stress.append(
            EV_PER_CUBIC_ANGSTROM_IN_GPA
            * (virials[:n] / volumes[:, None, None] - data.frames.stresses[indices])[known].ravel()
        )
        loss.append(float(_batch_loss(training, prediction, batch, targets)) * n)
    row = {"loss": sum(loss) / len(data.frames)}
    for name, parts in (("energy", energy), ("force", force), ("stress", stress)):
        errors = np.concatenate(parts)
        if len(errors):
            row[f"{name}_mae"] = float(np.abs(errors).mean())
            row[f"{name}_rmse"] = float(np.sqrt(np.square(errors).mean()))
    return row
