"""Train ensemble members on formation energies: resumable to the step, the same bits from the same seed on one machine.

Members may train one at a time, wherever there is a worker, or side by side in one program: every array has an axis of
members in front, and a second one of batch parts, which local devices share.
"""

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
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gnome_core.errors import GnomeError
from gnome_core.graphs.batching import GraphBatch, batches
from gnome_core.graphs.featurize import GraphTable
from gnome_core.models.config import ModelConfig
from gnome_core.models.members import MemberRecord, apply_model, load_member, member_name, model_of, save_member
from gnome_core.training.checkpoint import Checkpoints
from gnome_core.training.members.batches import EpochPlan, Step, ahead
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.members.losses import energy_loss

Progress = Callable[[int, dict[str, float]], None]


class TrainingDiverged(GnomeError, ValueError):
    """The loss is NaN or infinite."""


@dataclass(frozen=True)
class MemberResult:
    """A trained member: `path` is its .npz (a .json beside it). MAE in eV/atom at the crystals' own volume."""

    member: int
    path: str
    train_mae: float
    val_mae: float | None
    epochs: int
    curve: list[dict[str, float]]


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


def train_members(
    graphs: GraphTable,
    e_form: np.ndarray,
    is_train: np.ndarray,
    *,
    members: Sequence[int],
    seed: int,
    out_dir: str | Path,
    model: ModelConfig,
    training: TrainingConfig,
    init_from: Sequence[str | Path | None] | None = None,
    progress: Progress | None = None,
) -> list[MemberResult]:
    """Train, export `out_dir`/member-000.npz and .json for each member, and say how good they are.

    graphs: n of the kind that `model` reads, with its cutoff; e_form: (n,) eV/atom; is_train: (n,) bool, the others
    validate. members: their numbers, which tell those of one seed apart; a member's result is the same to rounding
    whoever trains beside it. init_from: for each, a member file to fine-tune from (its config must equal `model`; its
    statistics are kept). progress gets member and row of the curve after each epoch.
    An interrupted call with the same arguments resumes from its newest checkpoint and ends with the same bits.
    Raises ValueError for labels that are not finite, an empty training set or a graph that no batch holds, and
    TrainingDiverged.
    """
    e_form, is_train = np.asarray(e_form, np.float64), np.asarray(is_train, bool)
    out_dir = Path(out_dir)
    if not np.isfinite(e_form).all():
        raise ValueError(f"label {int(np.argmin(np.isfinite(e_form)))} is not finite; drop the row")
    train, val = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    if not len(train):
        raise ValueError("no training crystals; check the split")
    starts = [str(path) if path else None for path in init_from or [None] * len(members)]

    model_name, network = model_of(model)
    initial = [
        _initial_variables(network, graphs, train, e_form, np.random.default_rng([seed, member]), start)
        for member, start in zip(members, starts, strict=True)
    ]
    variables = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *initial)
    params, statistics = variables["params"], variables["statistics"]
    plan = EpochPlan(
        graphs,
        train,
        e_form,
        batch_size=training.batch_size,
        epochs=training.epochs,
        cutoff=model.cutoff,
        seeds=[(seed, member) for member in members],
        volume_jitter=training.volume_jitter,
        n_parts=training.devices,
    )
    trained_network = model_of(model, training.precision)[1]
    place = _placement(training.devices)
    n = len(members)
    state = TrainState(
        params=params,
        optimizer=jax.vmap(_adam(training).init)(params),
        average=params,
        best=params,
        best_mae=jnp.full(n, jnp.inf),
        best_epoch=jnp.zeros(n, jnp.int32),
        loss_sum=jnp.zeros(n),
        n_losses=jnp.zeros(n),
    )

    def errors(params: Any, rows: np.ndarray) -> np.ndarray:
        return _mean_errors(network, {"params": params, "statistics": statistics}, graphs, rows, e_form)

    digest = _run_digest(graphs, e_form, is_train, model, training, list(members), seed, starts)
    checkpoints = Checkpoints(out_dir / "checkpoints" / digest)
    curve_file = out_dir / "checkpoints" / f"{digest}.json"
    epoch, step, total, curves = 0, 0, 0, [[] for _ in members]
    if (restored := checkpoints.restore_newest(state)) is not None:
        total, state = restored
        saved = json.loads(curve_file.read_text())[str(total)]
        epoch, step, curves = saved["epoch"], saved["step"], saved["curves"]
    while epoch < training.epochs and not _out_of_patience(epoch, state, training):
        for batch in ahead(plan.epoch(epoch, step)):
            state = _train_step(trained_network, training, statistics, state, place(batch))
            step, total = step + 1, total + 1
            if total % training.checkpoint_every == 0:
                _save(checkpoints, curve_file, total, state, {"epoch": epoch, "step": step, "curves": curves})
        epoch, step = epoch + 1, 0
        losses = np.asarray(state.loss_sum) / np.maximum(np.asarray(state.n_losses), 1)
        if not np.isfinite(losses).all():
            checkpoints.close()
            raise TrainingDiverged(
                f"member {members[int(np.argmin(np.isfinite(losses)))]}: the loss of epoch {epoch} is not finite; "
                f"lower training.learning_rate ({training.learning_rate})"
            )
        state = state._replace(loss_sum=jnp.zeros(n), n_losses=jnp.zeros(n))
        rows = [{"epoch": epoch, "train_loss": float(loss)} for loss in losses]
        if len(val) and (epoch % training.validate_every == 0 or epoch == training.epochs):
            val_mae = errors(state.average, val)
            for row, mae in zip(rows, val_mae, strict=True):
                row["val_mae"] = float(mae)
            state = _keep_best(state, jnp.asarray(val_mae, jnp.float32), epoch)
        for member, curve, row in zip(members, curves, rows, strict=True):
            curve.append(row)
            if progress is not None:
                progress(member, row)
    checkpoints.close()

    final = state.best if training.patience is not None and len(val) else state.average
    train_mae, val_mae = errors(final, train), errors(final, val) if len(val) else None
    results = []
    for index, member in enumerate(members):
        own = {"params": final, "statistics": statistics}
        own = jax.tree.map(lambda leaf, index=index: leaf[index], own)
        path = out_dir / f"{member_name(member)}.npz"
        result = MemberResult(
            member,
            str(path),
            float(train_mae[index]),
            None if val_mae is None else float(val_mae[index]),
            epoch,
            curves[index],
        )
        record = MemberRecord(
            model=model_name,
            config=model.model_dump(),
            member=member,
            seed=seed,
            elements=_elements(graphs, train),
            **{name: float(value) for name, value in own["statistics"].items()},
            n_train=len(train),
            n_val=len(val),
            train_mae=result.train_mae,
            val_mae=result.val_mae,
            epochs=epoch,
            training=training.model_dump(),
            init_from=starts[index],
            curve=curves[index],
        )
        save_member(path, own, record)
        results.append(result)
    return results


def _out_of_patience(epoch: int, state: TrainState, training: TrainingConfig) -> bool:
    return training.patience is not None and bool((epoch - np.asarray(state.best_epoch) >= training.patience).all())


def _keep_best(state: TrainState, val_mae: jax.Array, epoch: int) -> TrainState:
    better = val_mae < state.best_mae

    def choose(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return state._replace(
        best=jax.tree.map(choose, state.best, state.average),
        best_mae=jnp.where(better, val_mae, state.best_mae),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
    )


def _save(checkpoints: Checkpoints, curve_file: Path, total: int, state: TrainState, position: dict) -> None:
    """The state after `total` steps, and where in the training that is; the position is there before its state."""
    positions = json.loads(curve_file.read_text()) if curve_file.exists() else {}
    newest = {key: value for key, value in positions.items() if int(key) == max(map(int, positions))}
    curve_file.write_text(json.dumps({**newest, str(total): position}))
    checkpoints.save(total, state)


def _elements(graphs: GraphTable, rows: np.ndarray) -> list[int]:
    """Atomic numbers in the given graphs, ascending."""
    graph = np.repeat(np.arange(graphs.n_graphs), graphs.n_nodes)
    return np.unique(graphs.numbers[np.isin(graph, rows)]).tolist()


def _initial_variables(
    network: nn.Module,
    graphs: GraphTable,
    train: np.ndarray,
    e_form: np.ndarray,
    rng: np.random.Generator,
    init_from: str | None,
) -> dict:
    if init_from is not None:
        variables, record = load_member(init_from)
        if record.network() != network:
            raise ValueError(f"{init_from} is a {record.network()}; fine-tuning needs the same configuration")
        return variables
    _, one = next(batches(graphs, train[:1], np.ones(1), network.config.cutoff))
    params = _initialise(network, int(rng.integers(2**31)), one)["params"]
    # An element or a batch of one label has no spread; 1 eV/atom keeps the scale finite.
    config = network.config
    statistics = {
        "mean_adjacency": config.adjacency or max(float(graphs.degrees(config.cutoff)[train].mean()), 1.0),
        "shift": float(e_form[train].mean()),
        "scale": (float(e_form[train].std()) or 1.0) if config.scaled else 1.0,
    }
    return {"params": params, "statistics": {name: np.float32(value) for name, value in statistics.items()}}


def _placement(devices: int) -> Callable[[Step], Step]:
    """Where a step's arrays go: their parts (axis 1) are divided among the local devices."""
    if devices == 1:
        return lambda step: step
    if devices > jax.local_device_count():
        raise ValueError(f"training.devices = {devices}, but this process has {jax.local_device_count()}")
    mesh = Mesh(np.array(jax.local_devices()[:devices]), ("parts",))
    whole, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "parts"))

    def place(step: Step) -> Step:
        shared = jax.device_put((step.graphs, step.labels, step.weights), parts)
        return Step(*shared, *jax.device_put((step.progress, step.active), whole))

    return place


def _adam(training: TrainingConfig) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(training.weight_decay))


# Compiled functions take everything that differs between members as arguments: members of a round share one trace.
@partial(jax.jit, static_argnums=(0, 1))
def _train_step(
    network: nn.Module, training: TrainingConfig, statistics: dict, state: TrainState, step: Step
) -> TrainState:
    return _along_axis(partial(_member_step, network, training), statistics, state, step)


def _along_axis(function: Callable, *trees: Any) -> Any:
    """`function` of every slice along the first axis, as vmap does; one slice alone is taken out of its axis, since
    XLA's gathers and scatters are slower with it."""
    if jax.tree.leaves(trees)[0].shape[0] > 1:
        return jax.vmap(function)(*trees)
    result = function(*jax.tree.map(lambda leaf: leaf[0], trees))
    return jax.tree.map(lambda leaf: leaf[None], result)


def _member_step(
    network: nn.Module, training: TrainingConfig, statistics: dict, state: TrainState, step: Step
) -> TrainState:
    """One step of one member; its arrays in `step` have the parts' axis in front."""

    def loss(params: Any) -> jax.Array:
        variables = {"params": params, "statistics": statistics}
        predicted = _along_axis(lambda graph: apply_model(network, variables, graph), step.graphs)
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


@partial(jax.jit, static_argnums=0)
def _predict(network: nn.Module, variables: dict, graph: GraphBatch) -> jax.Array:
    """(m, n_graphs) energies of stacked members."""
    return jax.lax.map(lambda member: apply_model(network, member, graph), variables)


@partial(jax.jit, static_argnums=0)
def _initialise(network: nn.Module, seed: int, graph: GraphBatch) -> dict:
    return dict(network.init(jax.random.key(seed), graph))


def _mean_errors(
    network: nn.Module, variables: dict, graphs: GraphTable, rows: np.ndarray, e_form: np.ndarray
) -> np.ndarray:
    """(m,) mean absolute error of each member on the rows at their own volume, eV/atom."""
    running = [
        (items, _predict(network, variables, batch))
        for items, batch in batches(graphs, rows, np.ones(len(rows)), network.config.cutoff)
    ]
    errors = [
        np.abs(np.asarray(energies)[:, : items.stop - items.start] - e_form[rows[items]]).sum(axis=1)
        for items, energies in running
    ]
    return np.sum(errors, axis=0) / len(rows)


def _run_digest(graphs: GraphTable, e_form: np.ndarray, is_train: np.ndarray, *settings: Any) -> str:
    """What a checkpoint belongs to: other data or settings start afresh instead of resuming."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (graphs.numbers, graphs.senders, graphs.lengths, e_form, is_train):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr(settings).encode())
    return digest.hexdigest()
