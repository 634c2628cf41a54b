"""Train a potential on energies, forces and stresses: resumable, and equal bits from equal seeds on one machine.

GNoME (Nature 624, 80, 2023, Methods): Huber losses on the energy per atom and on force components, Adam, batches half
of first frames and half of all frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.coverage import by_number
from gnome_core.potentials.files import PotentialRecord, save_potential
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.training.devices import placement
from gnome_core.training.epochs import Row, Trained, diverged, run_epochs
from gnome_core.training.potential.batches import FrameGraphs, epoch_order
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.losses import frame_errors
from gnome_core.training.potential.networks import (
    NequIPNetwork,
    Network,
    Start,
    network_of,
    predict_compiled,
    starting_point,
)
from gnome_core.training.potential.shifts import explain_the_rest, starting_shifts
from gnome_core.training.potential.step import PotentialState, initial_state, rate_factor, train_step


@dataclass(frozen=True)
class PotentialResult:
    """A trained potential: `path` is its .npz (a .json beside it). errors: of the n_val frames that validated."""

    path: str
    n_train: int
    n_val: int
    errors: dict[str, float]
    epochs: int
    curve: list[Row]


def train_potential(
    frames: LabelledFrames,
    is_train: np.ndarray,
    *,
    seed: int,
    out_dir: str | Path,
    name: str = "potential",
    model: NequIPConfig | None = None,
    training: PotentialTrainingConfig | None = None,
    references: Mapping[int, float] | None = None,
    init_from: str | Path | None = None,
    origin: str = "",
    progress: Callable[[Row], None] | None = None,
) -> PotentialResult:
    """Train, export `out_dir`/`name`.npz and .json, and return where they are and how good.

    is_train: (n,) bool, the other frames validate. references: eV/atom by atomic number, for shifts = "references".
    init_from: a potential to fine-tune (see `starting_point`); its network is taken over (model must then be None or
    equal), all weights are trained, and its shifts are made anew unless they are on the scale of the frames. progress
    gets each row of the curve.
    An interrupted call with the same arguments resumes from its newest checkpoint and ends with the same bits.
    Raises ValueError for an empty training set, elements the network has no weights for, missing references, or a
    plateau schedule without validation frames, and TrainingDiverged.
    """
    training = training or PotentialTrainingConfig()
    of, state = _set_up(frames, np.asarray(is_train, bool), seed, model, training, references, init_from)
    folder = Path(out_dir) / "checkpoints" / of.digest
    show = progress or (lambda row: None)
    trained = run_epochs(of, state, folder, lambda _, row: show(row))
    return _export(of, trained, Path(out_dir) / f"{name}.npz", origin)


@dataclass(frozen=True, eq=False)
class _PotentialTraining:
    """What one call trains, and how (see `gnome_core.training.epochs.Training`).

    train, val: the frames' graphs, val None without any. network: of validation and export; trained_network: of steps,
    in the precision of training. place: where a step's arrays go.
    """

    frames: LabelledFrames
    train: FrameGraphs
    val: FrameGraphs | None
    seed: int
    settings: PotentialTrainingConfig
    start: str | None
    network: Network
    trained_network: Network
    place: Callable[[Any], Any]
    statistics: dict
    digest: str
    names: tuple[str, ...] = ("",)

    @property
    def epochs(self) -> int:
        return self.settings.epochs

    @property
    def learning_rate(self) -> float:
        return self.settings.learning_rate

    def steps(self, state: PotentialState, epoch: int, first: int) -> Iterator[PotentialState]:
        settings, n = self.settings, len(self.train.frames)
        first_frames = np.flatnonzero(self.train.frames.first)
        order = epoch_order(n, first_frames, settings.first_frames, settings.batch_size, (self.seed, epoch))
        batches = self.train.steps(order, first, settings.devices)
        for index, (batch, targets, n_frames) in enumerate(batches, first):
            done = (epoch + index * settings.batch_size / n) / settings.epochs
            rate = jnp.float32(settings.learning_rate * rate_factor(settings, done, int(state.drops)))
            *trained, loss = train_step(
                self.trained_network,
                settings,
                self.statistics,
                rate,
                *state[:3],
                state.step,
                *self.place((batch, targets)),
            )
            state = state._replace(
                params=trained[0],
                optimizer=trained[1],
                average=trained[2],
                step=state.step + 1,
                loss_sum=state.loss_sum + n_frames * loss,
                n_frames=state.n_frames + n_frames,
            )
            yield state

    def end_epoch(self, state: PotentialState, ended: int) -> tuple[PotentialState, list[Row]]:
        settings = self.settings
        row: Row = {"epoch": ended, "train_loss": float(state.loss_sum) / max(int(state.n_frames), 1)}
        state = state._replace(loss_sum=jnp.float32(0), n_frames=jnp.int32(0))
        if self.val is not None and (ended % settings.validate_every == 0 or ended == settings.epochs):
            row |= self.errors(state.average, self.val)
            if row["loss"] < float(state.best_loss):
                loss, best_epoch = jnp.float32(row["loss"]), jnp.int32(ended)
                state = state._replace(best=state.average, best_loss=loss, best_epoch=best_epoch)
            waited = ended - max(int(state.best_epoch), int(state.last_drop))
            if settings.schedule == "plateau" and waited >= settings.plateau_epochs:
                state = state._replace(drops=state.drops + 1, last_drop=jnp.int32(ended))
        return state, [row]

    def is_over(self, state: PotentialState, ended: int) -> bool:
        return False

    def checkpoint_due(self, ended: int, step: int, total: int) -> bool:
        return step > 0 and total % self.settings.checkpoint_every == 0

    def errors(self, params: dict, data: FrameGraphs) -> dict[str, float]:
        """Errors on frames, and the loss; see `frame_errors`."""
        data = data.shifted(data.shifts + np.asarray(params["shifts"], np.float64))
        variables = {"params": params["network"], "statistics": self.statistics}
        return frame_errors(self.network, variables, data, self.settings)


def _set_up(
    frames: LabelledFrames,
    is_train: np.ndarray,
    seed: int,
    model: NequIPConfig | None,
    training: PotentialTrainingConfig,
    references: Mapping[int, float] | None,
    init_from: str | Path | None,
) -> tuple[_PotentialTraining, PotentialState]:
    """What is to be trained and the state that it starts from. Raises ValueError, see `train_potential`."""
    if not is_train.any():
        raise ValueError("no training frames; check the split")
    train, val = frames.take(is_train), frames.take(~is_train)
    if train.level.all():
        raise ValueError("no training frame of the first level of theory, on which the potential answers")
    if training.hessian_weight and not frames.directions:
        raise ValueError("hessian_weight is set, but the frames have no Hessian rows")
    start = starting_point(str(init_from)) if init_from is not None else None
    if start is not None and model not in (None, start.config):
        raise ValueError(f"{init_from} is a {start.config}; fine-tuning needs the same configuration")
    config = start.config if start is not None else model or NequIPConfig(elements=frames.elements)
    network, trained_network = network_of(config), network_of(config, training.precision)
    if int(frames.level.max()) >= network.config.levels:
        raise ValueError(f"frames of {int(frames.level.max()) + 1} levels of theory; set model.levels")
    if training.hessian_weight and not isinstance(network, NequIPNetwork):
        raise ValueError("hessian_weight is for NequIP; a CHGNet learns energies, forces and stresses")
    if unknown := set(frames.elements) - set(network.config.elements):
        raise ValueError(f"the network has no weights for atomic numbers {sorted(unknown)}; add them to model.elements")

    own = _own_shifts(start, frames, training)
    shifts = own if own is not None else starting_shifts(train, network.config.levels, training, references)
    data = FrameGraphs(train, network, shifts, training.batch_size)
    if start is not None:
        variables = start.variables
    else:
        assert isinstance(network, NequIPNetwork)
        variables = _initial_variables(network, data, seed, training)
    if own is None:
        residual = data.energy * data.n_atoms
        if start is not None or training.scale == "forces":  # the paper's constant is the mean of the labels alone
            residual = residual - _network_energies(network, variables, data)
        shifts = explain_the_rest(train, shifts, residual, training)
    # An element, or a level of theory, that only validating frames have has no energy zero.
    val = val.take(
        np.array([np.isfinite(shifts[i, c.numbers]).all() for c, i in zip(val.crystals, val.level, strict=True)], bool)
    )
    if training.schedule == "plateau" and not len(val):
        raise ValueError(
            'schedule = "plateau" waits for a better validation loss and no frame validates; '
            "set val_fraction above 0, or another schedule"
        )
    of = _PotentialTraining(
        frames,
        data.shifted(shifts),
        FrameGraphs(val, network, shifts, training.batch_size) if len(val) else None,
        seed,
        training,
        str(init_from) if init_from is not None else None,
        network,
        trained_network,
        placement(training.devices, axis=0),
        jax.tree.map(jnp.asarray, variables.get("statistics", {})),
        _run_digest(frames, is_train, network, training, seed, init_from, shifts),
    )
    corrections = jnp.zeros_like(shifts, jnp.float32)  # eV, to shifts that are trained with the network
    params = {"network": jax.tree.map(jnp.asarray, variables["params"]), "shifts": corrections}
    return of, initial_state(params, training)


def _own_shifts(start: Start | None, frames: LabelledFrames, training: PotentialTrainingConfig) -> np.ndarray | None:
    """The shifts of a start on the scale of the frames, which a few compositions would only spoil; else None."""
    if start is None or training.shifts != "fit" or start.scale != frames.scale or frames.level.any():
        return None
    if not set(frames.elements) <= set(start.shifts):
        return None
    table = np.full((start.config.levels, 256), np.nan)
    table[0] = by_number(start.shifts)
    return table


def _export(of: _PotentialTraining, trained: Trained[PotentialState], path: Path, origin: str) -> PotentialResult:
    """Write the potential and its record. Raises TrainingDiverged for parameters that predict no number."""
    state, (curve,) = trained.state, trained.curves
    final = state.best if of.val is not None else state.average
    errors = of.errors(final, of.train if of.val is None else of.val)
    if not np.isfinite(errors["loss"]):
        raise diverged("", "the loss of the trained potential", of.learning_rate)
    errors = errors if of.val is not None else {}
    shifts = of.train.shifts + np.asarray(final["shifts"], np.float64)
    record = PotentialRecord(
        config=of.network.config,
        scale=of.frames.scale,
        shifts={z: float(shifts[0, z]) for z in of.frames.elements if np.isfinite(shifts[0, z])},
        n_train=len(of.train.frames),
        n_val=len(of.val.frames) if of.val is not None else 0,
        errors=errors,
        epochs=trained.epochs,
        seed=of.seed,
        training=of.settings.model_dump(),
        origin=origin,
        init_from=of.start,
        curve=curve,
    )
    save_potential(path, {"params": final["network"], "statistics": of.statistics}, record)
    return PotentialResult(str(path), record.n_train, record.n_val, errors, trained.epochs, curve)


def _initial_variables(network: NequIPNetwork, data: FrameGraphs, seed: int, training: PotentialTrainingConfig) -> dict:
    batch, _, _ = next(data.batches([0]))
    key = jax.random.key(int(np.random.default_rng([seed, 1]).integers(2**31)))
    params = jax.jit(network.module.init)(key, batch)["params"]
    edges = sum(int((np.linalg.norm(g.vectors, axis=-1) < network.config.cutoff).sum()) for g in data.graphs)
    if training.scale == "energies":
        scale = float(data.energy.std())
    else:  # energies of the size of the forces: both then start at the size of their labels
        scale = float(np.sqrt(np.mean(np.concatenate([f.ravel() for f in data.frames.forces]) ** 2)))
    statistics = {
        "scale": jnp.float32(scale or 1.0),
        "neighbors": jnp.float32(network.config.neighbors or max(edges / data.n_atoms.sum(), 1.0)),
    }
    return {"params": params, "statistics": statistics}


def _network_energies(network: Network, variables: dict, data: FrameGraphs) -> np.ndarray:
    """(n,) eV of the cells, without shifts."""
    energies = np.empty(len(data.frames))
    for batch, _, indices in data.batches(range(len(data.frames))):
        atoms = np.asarray(predict_compiled(network, variables, batch).atoms, np.float64)
        energies[indices] = np.bincount(batch.graph, atoms, minlength=len(batch.n_atoms))[: len(indices)]
    return energies


def _run_digest(
    frames: LabelledFrames,
    is_train: np.ndarray,
    network: Network,
    training: PotentialTrainingConfig,
    seed: int,
    init_from: str | Path | None,
    shifts: np.ndarray,
) -> str:
    """Names the checkpoints of a run: equal for a call with equal arguments."""
    digest = hashlib.blake2b(digest_size=16)
    settings = [network.config.model_dump(), training.model_dump(), seed]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    if init_from is not None:
        digest.update(Path(init_from).read_bytes() if Path(init_from).exists() else str(init_from).encode())
    rows = (*frames.forces, *frames.directions, *frames.responses)
    for array in (frames.energies, frames.stresses, frames.first, frames.level, is_train, shifts, *rows):
        digest.update(np.ascontiguousarray(array).tobytes())
    for crystal in frames.crystals:
        digest.update(crystal.lattice.tobytes() + crystal.frac_coords.tobytes() + crystal.numbers.tobytes())
    return digest.hexdigest()
