"""Train ensemble members on formation energies: resumable to the step, the same bits from the same seed on one machine.

Members may train one at a time, wherever there is a worker, or side by side in one program: every array has an axis of
members in front, and a second one of batch parts, which local devices share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.graphs.batching import GraphBatch, batches
from gnome_core.graphs.featurize import GraphTable
from gnome_core.models.config import ModelConfig
from gnome_core.models.members import MemberRecord, Target, apply_model, load_member, member_name, model_of, save_member
from gnome_core.training.devices import placement
from gnome_core.training.epochs import Row, Trained, diverged, run_epochs
from gnome_core.training.members.batches import EpochPlan, Replay, Step, ahead
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.members.step import TrainState, initial_state, train_step

Progress = Callable[[int, Row], None]


@dataclass(frozen=True)
class MemberResult:
    """A trained member: `path` is its .npz (a .json beside it). MAE in eV/atom at the crystals' own volume."""

    member: int
    path: str
    train_mae: float
    val_mae: float | None
    epochs: int
    curve: list[Row]


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
    replay: Replay | None = None,
    target: Target = "e_form_per_atom",
    progress: Progress | None = None,
) -> list[MemberResult]:
    """Train, export `out_dir`/member-000.npz and .json for each member, and say how good they are.

    graphs: n of the kind that `model` reads, with its cutoff; e_form: (n,) eV/atom; is_train: (n,) bool, the others
    validate. members: their numbers, which tell those of one seed apart; a member's result is the same to rounding
    whoever trains beside it. init_from: for each, a member file to fine-tune from (its config must equal `model`; its
    statistics are kept). replay: which graphs take turns, where an epoch does not see all. progress gets member and row
    of the curve after each epoch. target: what the labels are, where they are no formation energies; eV then.
    An interrupted call with the same arguments resumes from its newest checkpoint and ends with the same bits.
    Raises ValueError for labels that are not finite, an empty training set or a graph that no batch holds, and
    TrainingDiverged.
    """
    training_of, state = _set_up(graphs, e_form, is_train, members, seed, model, training, init_from, replay)
    folder = Path(out_dir) / "checkpoints" / training_of.digest
    show = progress or (lambda member, row: None)
    trained = run_epochs(training_of, state, folder, lambda index, row: show(members[index], row))
    return _export(training_of, trained, Path(out_dir), target)


@dataclass(frozen=True, eq=False)
class _MemberTraining:
    """What one call trains, and how (see `gnome_core.training.epochs.Training`).

    train, val: rows of the graphs; network: of validation and export, trained_network: of steps, in the precision of
    training; statistics: stacked, with the members' axis in front; place: where a step's arrays go.
    """

    graphs: GraphTable
    e_form: np.ndarray
    train: np.ndarray
    val: np.ndarray
    members: Sequence[int]
    seed: int
    model: ModelConfig
    settings: TrainingConfig
    starts: Sequence[str | None]
    network: nn.Module
    trained_network: nn.Module
    statistics: dict
    plan: EpochPlan
    place: Callable[[Step], Step]
    digest: str

    @property
    def names(self) -> list[str]:
        return [f"member {member}" for member in self.members]

    @property
    def epochs(self) -> int:
        return self.settings.epochs

    @property
    def learning_rate(self) -> float:
        return self.settings.learning_rate

    def steps(self, state: TrainState, epoch: int, first: int) -> Iterator[TrainState]:
        for batch in ahead(self.plan.epoch(epoch, first)):
            state = train_step(self.trained_network, self.settings, self.statistics, state, self.place(batch))
            yield state

    def end_epoch(self, state: TrainState, ended: int) -> tuple[TrainState, list[Row]]:
        losses = np.asarray(state.loss_sum) / np.maximum(np.asarray(state.n_losses), 1)
        rows: list[Row] = [{"epoch": ended, "train_loss": float(loss)} for loss in losses]
        nothing = jnp.zeros(len(self.members))
        state = state._replace(loss_sum=nothing, n_losses=nothing)
        if len(self.val) and (ended % self.settings.validate_every == 0 or ended == self.epochs):
            val_mae = self.errors(state.average, self.val)
            for row, mae in zip(rows, val_mae, strict=True):
                row["val_mae"] = float(mae)
            state = _keep_best(state, jnp.asarray(val_mae, jnp.float32), ended)
        return state, rows

    def is_over(self, state: TrainState, ended: int) -> bool:
        patience = self.settings.patience
        return patience is not None and bool((ended - np.asarray(state.best_epoch) >= patience).all())

    def checkpoint_due(self, ended: int, step: int, total: int) -> bool:
        return step > 0 and total % self.settings.checkpoint_every == 0

    def errors(self, params: Any, rows: np.ndarray) -> np.ndarray:
        """(m,) mean absolute error of each member on these rows, eV/atom."""
        variables = {"params": params, "statistics": self.statistics}
        return _mean_errors(self.network, variables, self.graphs, rows, self.e_form)


def _set_up(
    graphs: GraphTable,
    e_form: np.ndarray,
    is_train: np.ndarray,
    members: Sequence[int],
    seed: int,
    model: ModelConfig,
    training: TrainingConfig,
    init_from: Sequence[str | Path | None] | None,
    replay: Replay | None,
) -> tuple[_MemberTraining, TrainState]:
    """What is to be trained and the state that it starts from. Raises ValueError, see `train_members`."""
    e_form, is_train = np.asarray(e_form, np.float64), np.asarray(is_train, bool)
    if not np.isfinite(e_form).all():
        raise ValueError(f"label {int(np.argmin(np.isfinite(e_form)))} is not finite; drop the row")
    train, val = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    if not len(train):
        raise ValueError("no training crystals; check the split")
    starts = [str(path) if path else None for path in init_from or [None] * len(members)]

    network = model_of(model)[1]
    initial = [
        _initial_variables(network, graphs, train, e_form, np.random.default_rng([seed, member]), start)
        for member, start in zip(members, starts, strict=True)
    ]
    variables = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *initial)
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
        replay=replay,
    )
    training_of = _MemberTraining(
        graphs,
        e_form,
        train,
        val,
        list(members),
        seed,
        model,
        training,
        starts,
        network,
        model_of(model, training.precision)[1],
        variables["statistics"],
        plan,
        _placement(training.devices),
        _run_digest(graphs, e_form, is_train, starts, replay, model, training, list(members), seed),
    )
    return training_of, initial_state(variables["params"], training)


def _export(of: _MemberTraining, trained: Trained[TrainState], out_dir: Path, target: Target) -> list[MemberResult]:
    """Write the files of every member. Raises TrainingDiverged for parameters that predict no number."""
    state = trained.state
    final = state.best if of.settings.patience is not None and len(of.val) else state.average
    train_mae, val_mae = of.errors(final, of.train), of.errors(final, of.val) if len(of.val) else None
    results = []
    for index, member in enumerate(of.members):
        if not np.isfinite(train_mae[index]):
            raise diverged(of.names[index], "the error of the trained member", of.learning_rate)
        own = {"params": final, "statistics": of.statistics}
        own = jax.tree.map(lambda leaf, index=index: leaf[index], own)
        path = out_dir / f"{member_name(member)}.npz"
        result = MemberResult(
            member,
            str(path),
            float(train_mae[index]),
            None if val_mae is None else float(val_mae[index]),
            trained.epochs,
            trained.curves[index],
        )
        record = MemberRecord(
            model=model_of(of.model)[0],
            config=of.model.model_dump(),
            member=member,
            seed=of.seed,
            elements=_elements(of.graphs, of.train),
            **{name: float(value) for name, value in own["statistics"].items()},
            n_train=len(of.train),
            n_val=len(of.val),
            train_mae=result.train_mae,
            val_mae=result.val_mae,
            epochs=trained.epochs,
            training=of.settings.model_dump(),
            init_from=_origin(of.starts[index]),
            target=target,
            curve=result.curve,
        )
        save_member(path, own, record)
        results.append(result)
    return results


def _origin(start: str | None) -> str | None:
    """Folder and name of the member that another began from: the rest of a path says nothing on another machine."""
    return start and f"{Path(start).parent.name}/{Path(start).stem}"


def _keep_best(state: TrainState, val_mae: jax.Array, epoch: int) -> TrainState:
    better = val_mae < state.best_mae

    def choose(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return state._replace(
        best=jax.tree.map(choose, state.best, state.average),
        best_mae=jnp.where(better, val_mae, state.best_mae),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
    )


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
    place = placement(devices, axis=1)

    def placed(step: Step) -> Step:
        graphs, labels, weights = place((step.graphs, step.labels, step.weights))
        return step._replace(graphs=graphs, labels=labels, weights=weights)

    return placed


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


def _run_digest(
    graphs: GraphTable,
    e_form: np.ndarray,
    is_train: np.ndarray,
    starts: Sequence[str | None],
    replay: Replay | None,
    *settings: Any,
) -> str:
    """What a checkpoint belongs to: other data, members to start from or settings start afresh instead of resuming."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (*(getattr(graphs, field.name) for field in fields(graphs)), e_form, is_train):
        digest.update(np.ascontiguousarray(array).tobytes())
    if replay is not None:
        digest.update(replay.of.tobytes() + b"%d" % replay.number)
    for start in starts:
        digest.update(b"-" if start is None else Path(start).read_bytes())
    digest.update(repr(settings).encode())
    return digest.hexdigest()
