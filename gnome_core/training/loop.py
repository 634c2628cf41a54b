"""Train one ensemble member on formation energies: resumable, and the same bits from the same seed on one machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.batching import GraphBatch, batches
from gnome_core.graphs.featurize import GraphTable, structural_graphs
from gnome_core.models.config import StructuralConfig
from gnome_core.models.registry import MemberRecord, apply_model, load_member, save_member
from gnome_core.models.structural import StructuralGNN
from gnome_core.training.checkpoint import Checkpoints
from gnome_core.training.config import TrainingConfig
from gnome_core.training.data import EpochPlan
from gnome_core.training.losses import energy_loss


@dataclass(frozen=True)
class MemberResult:
    """A trained member: `path` is its .npz (a .json beside it). MAE in eV/atom at the crystals' own volume."""

    path: str
    train_mae: float
    val_mae: float | None
    epochs: int
    curve: list[dict[str, float]]


class TrainState(NamedTuple):
    """What training resumes from. `best` is the exported candidate: the average, or the best one if patience is set."""

    params: Any
    optimizer: Any
    average: Any
    best: Any
    best_mae: jax.Array
    best_epoch: jax.Array


def train_member(
    crystals: Sequence[Crystal],
    e_form: np.ndarray,
    is_train: np.ndarray,
    *,
    member: int,
    seed: int,
    out_dir: str | Path,
    model: StructuralConfig | None = None,
    training: TrainingConfig | None = None,
    init_from: str | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
    graphs: GraphTable | None = None,
) -> MemberResult:
    """Train, export `out_dir`/member.npz and .json, and return where it is and how good.

    e_form: (n,) eV/atom; is_train: (n,) bool, the others validate. member tells members of one seed apart.
    init_from: a member file to fine-tune from (its config must equal `model`; its statistics are kept).
    graphs: the crystals' graphs if they are at hand (members share them). progress gets each row of the curve.
    An interrupted call with the same arguments resumes from its newest checkpoint and ends with the same bits.
    Raises BadCrystal for crystals without a graph, ValueError for labels that are not finite or an empty training set.
    """
    model, training = model or StructuralConfig(), training or TrainingConfig()
    e_form, is_train = np.asarray(e_form, np.float64), np.asarray(is_train, bool)
    out_dir = Path(out_dir)
    if not np.isfinite(e_form).all():
        raise ValueError(f"label {int(np.argmin(np.isfinite(e_form)))} is not finite; drop the row")
    train, val = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    if not len(train):
        raise ValueError("no training crystals; check the split")
    graphs = graphs or structural_graphs(crystals, model.cutoff)

    network = StructuralGNN(model)
    rng = np.random.default_rng([seed, member])
    variables = _initial_variables(network, graphs, train, e_form, int(rng.integers(2**31)), init_from)
    statistics = variables["statistics"]
    plan = EpochPlan(graphs, train, e_form, training.batch_size, model.cutoff, (seed, member), training.volume_jitter)
    params = variables["params"]
    state = TrainState(params, _adam(training).init(params), params, params, jnp.float32(jnp.inf), jnp.int32(0))

    def error(params: Any, rows: np.ndarray) -> float:
        return _mean_error(network, {"params": params, "statistics": statistics}, graphs, rows, e_form)

    digest = _run_digest(graphs, e_form, is_train, model, training, member, seed, init_from)
    checkpoints = Checkpoints(out_dir / "checkpoints" / digest)
    curve_file = out_dir / "checkpoints" / f"{digest}.json"
    epoch, curve = 0, []
    if (restored := checkpoints.restore_newest(state)) is not None:
        epoch, state = restored
        curve = [row for row in json.loads(curve_file.read_text()) if row["epoch"] <= epoch]
    while epoch < training.epochs and not _out_of_patience(epoch, state, training):
        losses = []
        for batch in plan.epoch(epoch):
            # By the epoch and the step in it: the schedule needs no state and ends at zero whatever the packing.
            done = (epoch + len(losses) / plan.steps_per_epoch) / training.epochs
            learning_rate = jnp.float32(training.learning_rate * max(1 - done, 0.0))
            *trained, loss = _train_step(network, training, statistics, learning_rate, *state[:3], *batch)
            state = state._replace(params=trained[0], optimizer=trained[1], average=trained[2])
            losses.append(loss)
        epoch += 1
        row = {"epoch": epoch, "train_loss": float(np.mean([float(x) for x in losses]))}
        if len(val) and (epoch % training.validate_every == 0 or epoch == training.epochs):
            row["val_mae"] = error(state.average, val)
            if row["val_mae"] < float(state.best_mae):
                best = state.average
                state = state._replace(best=best, best_mae=jnp.float32(row["val_mae"]), best_epoch=jnp.int32(epoch))
        curve.append(row)
        if epoch % training.checkpoint_every == 0 and epoch < training.epochs:
            curve_file.write_text(json.dumps(curve))  # before the state: rows beyond a restored epoch are dropped
            checkpoints.save(epoch, state)
        if progress is not None:
            progress(row)
    checkpoints.close()

    final = state.best if training.patience is not None and len(val) else state.average
    train_mae = error(final, train)
    val_mae = error(final, val) if len(val) else None
    record = MemberRecord(
        model="structural",
        config=model.model_dump(),
        member=member,
        seed=seed,
        elements=sorted({int(z) for c in train for z in crystals[c].numbers}),
        **{name: float(value) for name, value in statistics.items()},
        n_train=len(train),
        n_val=len(val),
        train_mae=train_mae,
        val_mae=val_mae,
        epochs=epoch,
        training=training.model_dump(),
        init_from=init_from,
        curve=curve,
    )
    path = out_dir / "member.npz"
    save_member(path, {"params": final, "statistics": statistics}, record)
    return MemberResult(str(path), train_mae, val_mae, epoch, curve)


def _out_of_patience(epoch: int, state: TrainState, training: TrainingConfig) -> bool:
    return training.patience is not None and epoch - int(state.best_epoch) >= training.patience


def _initial_variables(
    network: nn.Module, graphs: GraphTable, train: np.ndarray, e_form: np.ndarray, seed: int, init_from: str | None
) -> dict:
    if init_from is not None:
        variables, record = load_member(init_from)
        if record.network() != network:
            raise ValueError(f"{init_from} is a {record.network()}; fine-tuning needs the same configuration")
        return jax.tree.map(jnp.asarray, variables)
    _, one = next(batches(graphs, train[:1], np.ones(1), network.config.cutoff))
    params = _initialise(network, seed, one)["params"]
    # An element or a batch of one label has no spread; 1 eV/atom keeps the scale finite.
    statistics = {
        "mean_adjacency": max(float(graphs.degrees(network.config.cutoff)[train].mean()), 1.0),
        "shift": float(e_form[train].mean()),
        "scale": float(e_form[train].std()) or 1.0,
    }
    return {"params": params, "statistics": {name: jnp.float32(value) for name, value in statistics.items()}}


def _adam(training: TrainingConfig) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(training.weight_decay))


# Compiled functions take everything that differs between members as arguments: members of a round share one trace.
@partial(jax.jit, static_argnums=(0, 1))
def _train_step(
    network: nn.Module,
    training: TrainingConfig,
    statistics: dict,
    learning_rate: jax.Array,
    params: Any,
    optimizer: Any,
    average: Any,
    graph: GraphBatch,
    labels: jax.Array,
    weights: jax.Array,
) -> tuple[Any, Any, Any, jax.Array]:
    def loss(params: Any) -> jax.Array:
        predicted = apply_model(network, {"params": params, "statistics": statistics}, graph)
        return energy_loss(training.loss, predicted, labels, weights)

    value, gradient = jax.value_and_grad(loss)(params)
    updates, optimizer = _adam(training).update(gradient, optimizer, params)
    params = jax.tree.map(lambda old, update: old - learning_rate * update, params, updates)
    decay = training.ema_decay
    average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
    return params, optimizer, average, value


@partial(jax.jit, static_argnums=0)
def _predict(network: nn.Module, variables: dict, graph: GraphBatch) -> jax.Array:
    return apply_model(network, variables, graph)


@partial(jax.jit, static_argnums=0)
def _initialise(network: nn.Module, seed: int, graph: GraphBatch) -> dict:
    return dict(network.init(jax.random.key(seed), graph))


def _mean_error(network: nn.Module, variables: dict, graphs: GraphTable, rows: np.ndarray, e_form: np.ndarray) -> float:
    """Mean absolute error of the rows at their own volume, eV/atom."""
    errors = np.empty(len(rows))
    for items, batch in batches(graphs, rows, np.ones(len(rows)), network.config.cutoff):
        errors[items] = (
            np.asarray(_predict(network, variables, batch))[: items.stop - items.start] - e_form[rows[items]]
        )
    return float(np.abs(errors).mean())


def _run_digest(graphs: GraphTable, e_form: np.ndarray, is_train: np.ndarray, *settings: Any) -> str:
    """What a checkpoint belongs to: other data or settings start afresh instead of resuming."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (graphs.numbers, graphs.senders, graphs.lengths, e_form, is_train):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr(settings).encode())
    return digest.hexdigest()
