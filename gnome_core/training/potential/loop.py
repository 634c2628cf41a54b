"""Train a potential on energies, forces and stresses: resumable, and equal bits from equal seeds on one machine.

GNoME (Nature 624, 80, 2023, Methods): Huber losses on the energy per atom and on force components, Adam, batches half
of first frames and half of all frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gnome_core.graphs.edges import EdgeBatch
from gnome_core.models.config import NequIPConfig
from gnome_core.models.layers import segment_sum
from gnome_core.models.nequip import NequIP
from gnome_core.potentials.files import PotentialRecord, load_potential, save_potential
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.potentials.gradients import Prediction, force_response, predict, predict_compiled
from gnome_core.training.checkpoint import Checkpoints
from gnome_core.training.potential.batches import FrameGraphs, Targets, epoch_order
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA


@dataclass(frozen=True)
class PotentialResult:
    """A trained potential: `path` is its .npz (a .json beside it). errors: of the validation frames, by unit."""

    path: str
    errors: dict[str, float]
    epochs: int
    curve: list[dict[str, float]]


class PotentialState(NamedTuple):
    """What training resumes from. `best` is the averaged parameters of the best validation loss."""

    params: Any
    optimizer: Any
    average: Any
    best: Any
    step: jax.Array
    best_loss: jax.Array
    best_epoch: jax.Array
    drops: jax.Array  # of the plateau schedule, so far
    last_drop: jax.Array  # epoch


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
    progress: Callable[[dict[str, float]], None] | None = None,
) -> PotentialResult:
    """Train, export `out_dir`/`name`.npz and .json, and return where they are and how good.

    is_train: (n,) bool, the other frames validate. references: eV/atom by atomic number, for shifts = "references".
    init_from: a potential to fine-tune; its network is taken over (model must then be None or equal), all weights are
    trained, and its shifts are fitted anew. progress gets each row of the curve.
    An interrupted call with the same arguments resumes from its newest checkpoint and ends with the same bits.
    Raises ValueError for an empty training set, elements the network has no weights for, or missing references.
    """
    training = training or PotentialTrainingConfig()
    is_train, out_dir = np.asarray(is_train, bool), Path(out_dir)
    train_rows, val_rows = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    if not len(train_rows):
        raise ValueError("no training frames; check the split")
    train, val = frames.take(train_rows), frames.take(val_rows)

    if training.hessian_weight and not frames.directions:
        raise ValueError("hessian_weight is set, but the frames have no Hessian rows")
    start = load_potential(init_from) if init_from is not None else None
    if start is not None and model not in (None, start[1].config):
        raise ValueError(f"{init_from} is a {start[1].config}; fine-tuning needs the same configuration")
    model = start[1].config if start is not None else model or NequIPConfig(elements=frames.elements)
    if int(frames.level.max()) >= model.levels:
        raise ValueError(f"frames of {int(frames.level.max()) + 1} levels of theory; set model.levels")
    if unknown := set(frames.elements) - set(model.elements):
        raise ValueError(f"the network has no weights for atomic numbers {sorted(unknown)}; add them to model.elements")
    network = NequIP(model)
    shifts = _shifts(train, training, references)
    data = FrameGraphs(train, model.cutoff, shifts, training.batch_size)
    variables = start[0] if start is not None else _initial_variables(network, data, seed)
    # What the shifts must explain is what the network does not, be it pretrained or random.
    residual = data.energy * data.n_atoms - _network_energies(network, variables, data)
    shifts = shifts + fit_shifts(train, residual)
    data = data.shifted(shifts)
    # An element that only validating crystals hold has no energy zero.
    val = val.take(
        np.array([np.isfinite(shifts[i, c.numbers]).all() for c, i in zip(val.crystals, val.level, strict=True)], bool)
    )
    val_data = FrameGraphs(val, model.cutoff, shifts, training.batch_size) if len(val) else None

    statistics = jax.tree.map(jnp.asarray, variables["statistics"])
    corrections = jnp.zeros_like(shifts, jnp.float32)  # eV, to the shifts, learnt with the network
    params = {"network": jax.tree.map(jnp.asarray, variables["params"]), "shifts": corrections}
    zero = jnp.int32(0)
    optimizer = _adam(training).init(params)
    state = PotentialState(params, optimizer, params, params, zero, jnp.float32(jnp.inf), zero, zero, zero)
    digest = _run_digest(frames, is_train, model, training, seed, init_from, shifts)
    checkpoints = Checkpoints(out_dir / "checkpoints" / digest)
    curve_file = out_dir / "checkpoints" / f"{digest}.json"
    epoch, curve = 0, []
    if (restored := checkpoints.restore_newest(state)) is not None:
        epoch, state = restored
        curve = [row for row in json.loads(curve_file.read_text()) if row["epoch"] <= epoch]
    first = np.flatnonzero(train.first)
    while epoch < training.epochs:
        losses = []
        order = epoch_order(len(train), first, training.first_frames, training.batch_size, (seed, epoch))
        for batch, targets, indices in data.batches(order):
            done = (epoch + (len(losses) * training.batch_size) / len(train)) / training.epochs
            rate = jnp.float32(training.learning_rate * _rate_factor(training, done, int(state.drops)))
            *trained, loss = _train_step(network, training, statistics, rate, *state[:3], state.step, batch, targets)
            state = state._replace(params=trained[0], optimizer=trained[1], average=trained[2], step=state.step + 1)
            losses.append((loss, len(indices)))
        epoch += 1
        values, counts = (np.array(x, np.float64) for x in zip(*losses, strict=True))
        row = {"epoch": epoch, "train_loss": float(np.average(values, weights=counts))}
        if val_data is not None and (epoch % training.validate_every == 0 or epoch == training.epochs):
            row |= _errors(network, state.average, statistics, val_data, training)
            if row["loss"] < float(state.best_loss):
                best = state.average
                state = state._replace(best=best, best_loss=jnp.float32(row["loss"]), best_epoch=jnp.int32(epoch))
        waited = epoch - max(int(state.best_epoch), int(state.last_drop))
        if training.schedule == "plateau" and waited >= training.plateau_epochs:
            state = state._replace(drops=state.drops + 1, last_drop=jnp.int32(epoch))
        curve.append(row)
        if epoch % training.checkpoint_every == 0 and epoch < training.epochs:
            curve_file.write_text(json.dumps(curve))  # before the state: rows beyond a restored epoch are dropped
            checkpoints.save(epoch, state)
        if progress is not None:
            progress(row)
    checkpoints.close()

    final = state.best if len(val) else state.average
    errors = _errors(network, final, statistics, val_data, training) if val_data is not None else {}
    shifts = shifts + np.asarray(final["shifts"], np.float64)
    record = PotentialRecord(
        config=model,
        scale=frames.scale,
        shifts={z: float(shifts[0, z]) for z in frames.elements if np.isfinite(shifts[0, z])},
        n_train=len(train),
        n_val=len(val),
        errors=errors,
        epochs=epoch,
        seed=seed,
        training=training.model_dump(),
        origin=origin,
        init_from=str(init_from) if init_from is not None else None,
        curve=curve,
    )
    path = out_dir / f"{name}.npz"
    save_potential(path, {"params": final["network"], "statistics": statistics}, record)
    return PotentialResult(str(path), errors, epoch, curve)


def fit_shifts(frames: LabelledFrames, energies: np.ndarray) -> np.ndarray:
    """(levels, 256) eV by atomic number: least squares of the energies per atom over compositions, level by level; NaN
    for elements that a level lacks.

    Least squares of smallest norm: frames of one composition share their energy out evenly.
    """
    shifts = np.full((int(frames.level.max()) + 1, 256), np.nan)
    for level in np.unique(frames.level):
        rows = np.flatnonzero(frames.level == level)
        elements = np.array(frames.take(rows).elements)
        counts = np.array([(frames.crystals[i].numbers[:, None] == elements).sum(0) for i in rows], float)
        n_atoms = counts.sum(1, keepdims=True)
        solution, *_ = np.linalg.lstsq(counts / n_atoms, energies[rows] / n_atoms[:, 0], rcond=1e-8)
        shifts[level, elements] = solution
    return shifts


def frame_errors(
    network: NequIP, variables: dict, data: FrameGraphs, training: PotentialTrainingConfig
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


def _errors(
    network: NequIP, params: dict, statistics: dict, data: FrameGraphs, training: PotentialTrainingConfig
) -> dict[str, float]:
    data = data.shifted(data.shifts + np.asarray(params["shifts"], np.float64))
    return frame_errors(network, {"params": params["network"], "statistics": statistics}, data, training)


def _shifts(
    train: LabelledFrames, training: PotentialTrainingConfig, references: Mapping[int, float] | None
) -> np.ndarray:
    if training.shifts == "fit":
        return fit_shifts(train, train.energies)
    references = references or {}
    if missing := set(train.elements) - set(references):
        raise ValueError(f'shifts = "references" needs a reference energy of atomic numbers {sorted(missing)}')
    if train.level.any():
        raise ValueError('shifts = "references" is for frames of one level of theory; use "fit"')
    table = np.full((1, 256), np.nan)
    table[0, list(references)] = list(references.values())
    return table


def _initial_variables(network: NequIP, data: FrameGraphs, seed: int) -> dict:
    batch, _, _ = next(data.batches([0]))
    key = jax.random.key(int(np.random.default_rng([seed, 1]).integers(2**31)))
    params = jax.jit(network.init)(key, batch)["params"]
    edges = sum(int((np.linalg.norm(g.vectors, axis=-1) < network.config.cutoff).sum()) for g in data.graphs)
    # Energies of the size of the forces: both then start at the size of their labels.
    rms = float(np.sqrt(np.mean(np.concatenate([f.ravel() for f in data.frames.forces]) ** 2)))
    statistics = {
        "scale": jnp.float32(rms or 1.0),
        "neighbors": jnp.float32(network.config.neighbors or max(edges / data.n_atoms.sum(), 1.0)),
    }
    return {"params": params, "statistics": statistics}


def _network_energies(network: NequIP, variables: dict, data: FrameGraphs) -> np.ndarray:
    """(n,) eV of the cells, without shifts."""
    energies = np.empty(len(data.frames))
    for batch, _, indices in data.batches(range(len(data.frames))):
        atoms = np.asarray(predict_compiled(network, variables, batch).atoms, np.float64)
        energies[indices] = np.bincount(batch.graph, atoms, minlength=len(batch.n_atoms))[: len(indices)]
    return energies


def _rate_factor(training: PotentialTrainingConfig, done: float, drops: int) -> float:
    if training.schedule == "linear":
        return max(1 - done, 0.0)
    if training.schedule == "steps":
        drops = sum(done >= share for share in training.drops)
    return training.factor**drops


def _adam(training: PotentialTrainingConfig) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(training.weight_decay))


def _loss(training: PotentialTrainingConfig, prediction: Prediction, batch: EdgeBatch, targets: Targets) -> jax.Array:
    huber = partial(optax.losses.huber_loss, delta=training.huber_delta)

    def mean(errors: jax.Array, weights: jax.Array | np.ndarray) -> jax.Array:
        per_row = huber(errors).reshape(len(errors), -1).mean(1)
        return (per_row * weights).sum() / jnp.maximum(weights.sum(), 1)

    n_graphs = len(batch.n_atoms)
    energy = segment_sum(prediction.atoms, batch.graph, n_graphs) / batch.n_atoms
    loss = training.energy_weight * mean(energy - targets.energy, targets.graph)
    loss += training.force_weight * mean(prediction.forces - targets.forces, targets.atom)
    if training.stress_weight:
        virial = prediction.virials / batch.n_atoms[:, None, None]
        loss += training.stress_weight * mean(virial - targets.virial, targets.virial_known)
    return loss


_batch_loss = jax.jit(_loss, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 1))
def _train_step(
    network: NequIP,
    training: PotentialTrainingConfig,
    statistics: dict,
    learning_rate: jax.Array,
    params: Any,
    optimizer: Any,
    average: Any,
    step: jax.Array,
    batch: EdgeBatch,
    targets: Targets,
) -> tuple[Any, Any, Any, jax.Array]:
    def loss(params: Any) -> jax.Array:
        prediction = predict(network, {"params": params["network"], "statistics": statistics}, batch)
        atoms = prediction.atoms + params["shifts"][batch.level, batch.numbers]
        value = _loss(training, prediction._replace(atoms=atoms), batch, targets)
        if training.hessian_weight:
            variables = {"params": params["network"], "statistics": statistics}
            error = force_response(network, variables, batch, targets.direction) - targets.response
            per_atom = optax.losses.huber_loss(error, delta=training.huber_delta).mean(1)
            value += training.hessian_weight * (per_atom * targets.atom).sum() / jnp.maximum(targets.atom.sum(), 1)
        return value

    value, gradient = jax.value_and_grad(loss)(params)
    updates, optimizer = _adam(training).update(gradient, optimizer, params)
    params = jax.tree.map(lambda old, update: old - learning_rate * update, params, updates)
    # A short memory at first, so that the average does not drag the start along.
    decay = jnp.minimum(training.ema_decay, (1.0 + step) / (10.0 + step)) if training.ema_decay else 0.0
    average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
    return params, optimizer, average, value


def _run_digest(
    frames: LabelledFrames,
    is_train: np.ndarray,
    model: NequIPConfig,
    training: PotentialTrainingConfig,
    seed: int,
    init_from: str | Path | None,
    shifts: np.ndarray,
) -> str:
    """Names the checkpoints of a run: equal for a call with equal arguments."""
    digest = hashlib.blake2b(digest_size=16)
    settings = [model.model_dump(), training.model_dump(), seed]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    if init_from is not None:
        digest.update(Path(init_from).read_bytes())
    for array in (frames.energies, frames.stresses, frames.first, frames.level, is_train, shifts, *frames.forces):
        digest.update(np.ascontiguousarray(array).tobytes())
    for crystal in frames.crystals:
        digest.update(crystal.lattice.tobytes() + crystal.frac_coords.tobytes() + crystal.numbers.tobytes())
    return digest.hexdigest()
