"""One step of the optimiser for stacked members: every array has an axis of members in front."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from gnome_core.models.members import apply_model
from gnome_core.training.devices import along_axis
from gnome_core.training.members.batches import Step
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.members.losses import energy_loss


class TrainState(NamedTuple):
    """What training resumes from; every leaf has the members' axis in front.

    `best` is the exported candidate: the average, or the best one if patience is set. loss_sum, n_losses: (m,) training
    loss of the running epoch.
    """

    params: Any
    optimizer: Any
    average: Any
    best: Any
    best_mae: jax.Array
    best_epoch: jax.Array
    loss_sum: jax.Array
    n_losses: jax.Array


def initial_state(params: Any, training: TrainingConfig) -> TrainState:
    """The state before the first step of members with these stacked parameters."""
    n = len(jax.tree.leaves(params)[0])
    return TrainState(
        params=params,
        optimizer=jax.vmap(_adam(training).init)(params),
        average=params,
        best=params,
        best_mae=jnp.full(n, jnp.inf),
        best_epoch=jnp.zeros(n, jnp.int32),
        loss_sum=jnp.zeros(n),
        n_losses=jnp.zeros(n),
    )


def _adam(training: TrainingConfig) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(training.weight_decay))


# Compiled functions take everything that differs between members as arguments: members of a round share one trace.
@partial(jax.jit, static_argnums=(0, 1))
def train_step(
    network: nn.Module, training: TrainingConfig, statistics: dict, state: TrainState, step: Step
) -> TrainState:
    """The state after one step of every member that is active in it."""
    return along_axis(partial(_member_step, network, training), statistics, state, step)


def _member_step(
    network: nn.Module, training: TrainingConfig, statistics: dict, state: TrainState, step: Step
) -> TrainState:
    """One step of one member; its arrays in `step` have the parts' axis in front."""

    def loss(params: Any) -> jax.Array:
        variables = {"params": params, "statistics": statistics}
        predicted = along_axis(lambda graph: apply_model(network, variables, graph), step.graphs)
        return energy_loss(training.loss, predicted, step.labels, step.weights)

    value, gradient = jax.value_and_grad(loss)(state.params)
    updates, optimizer = _adam(training).update(gradient, state.optimizer, state.params)
    # By the share that is over: the schedule needs no state and ends at zero whatever the packing.
    learning_rate = training.learning_rate * (1 - step.progress)
    params = jax.tree.map(lambda old, update: old - learning_rate * update, state.params, updates)
    decay = training.ema_decay
    average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.average, params)
    stepped = state._replace(
        params=params,
        optimizer=optimizer,
        average=average,
        loss_sum=state.loss_sum + value,
        n_losses=state.n_losses + 1,
    )
    return jax.tree.map(lambda new, old: jnp.where(step.active, new, old), stepped, state)
