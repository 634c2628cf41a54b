"""One step of the optimiser for a potential, and the learning rate of every step."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from gnome_core.potentials.gradients import force_response
from gnome_core.training.devices import along_axis
from gnome_core.training.potential.batches import Targets
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.losses import batch_loss, row_losses
from gnome_core.training.potential.networks import NequIPNetwork, Network

T = TypeVar("T")


class PotentialState(NamedTuple):
    """What training resumes from. `best` is the averaged parameters of the best validation loss; loss_sum is over the
    n_frames of the running epoch."""

    params: Any
    optimizer: Any
    average: Any
    best: Any
    step: jax.Array
    best_loss: jax.Array
    best_epoch: jax.Array
    drops: jax.Array  # of the plateau schedule, so far
    last_drop: jax.Array  # epoch
    loss_sum: jax.Array
    n_frames: jax.Array


def initial_state(params: Any, training: PotentialTrainingConfig) -> PotentialState:
    """The state before the first step."""
    zero = jnp.int32(0)
    optimizer = _adam(training).init(params)
    return PotentialState(
        params, optimizer, params, params, zero, jnp.float32(jnp.inf), zero, zero, zero, jnp.float32(0), zero
    )


def rate_factor(training: PotentialTrainingConfig, done: float, drops: int) -> float:
    """The learning rate over that at the start, after the share `done` of the training and `drops` of a plateau."""
    if training.schedule == "linear":
        return max(1 - done, 0.0)
    if training.schedule == "steps":
        drops = sum(done >= share for share in training.drops)
    if isinstance(training.factor, tuple):
        return math.prod(training.factor[:drops])
    return training.factor**drops


def _adam(training: PotentialTrainingConfig) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(training.weight_decay))


def _flat(tree: T) -> T:
    """Parts one after the other in one axis."""
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), tree)


class Graphs(NamedTuple):
    """What the loss needs of a batch. graph: (N,) int32; n_atoms: (G,)."""

    graph: jax.Array
    n_atoms: jax.Array


def _in_one(graph: jax.Array, n_atoms: jax.Array) -> Graphs:
    """Of parts, those of one batch."""
    n_parts, n_graphs = n_atoms.shape
    return Graphs(*_flat((graph + n_graphs * jnp.arange(n_parts)[:, None], n_atoms)))


@partial(jax.jit, static_argnums=(0, 1))
def train_step(
    network: Network,
    training: PotentialTrainingConfig,
    statistics: dict,
    learning_rate: jax.Array,
    params: Any,
    optimizer: Any,
    average: Any,
    step: jax.Array,
    batch: Any,
    targets: Targets,
) -> tuple[Any, Any, Any, jax.Array]:
    """Parameters, optimiser state and average after one step, and the loss before it.

    batch, targets: with an axis of parts in front; the loss is that of all of them in one batch.
    """
    graphs, labels = _in_one(batch.graph, batch.n_atoms), _flat(targets)

    def loss(params: Any) -> jax.Array:
        variables = {"params": params["network"], "statistics": statistics}
        prediction = _flat(along_axis(lambda part: network.predict(variables, part), batch))
        atoms = prediction.atoms
        if training.shifts == "fit":  # those of references stay as they are
            atoms += params["shifts"][labels.level, labels.numbers]
        value = batch_loss(training, prediction._replace(atoms=atoms), graphs, labels)
        if training.hessian_weight:
            assert isinstance(network, NequIPNetwork)
            module = network.module
            response = along_axis(
                lambda part, direction: force_response(module, variables, part, direction), batch, targets.direction
            )
            per_atom = row_losses(training, _flat(response) - labels.response)
            value += training.hessian_weight * (per_atom * labels.atom).sum() / jnp.maximum(labels.atom.sum(), 1)
        return value

    value, gradient = jax.value_and_grad(loss)(params)
    updates, optimizer = _adam(training).update(gradient, optimizer, params)
    params = jax.tree.map(lambda old, update: old - learning_rate * update, params, updates)
    # A short memory at first, so that the average does not drag the start along.
    decay = jnp.minimum(training.ema_decay, (1.0 + step) / (10.0 + step)) if training.ema_decay else 0.0
    average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
    return params, optimizer, average, value
