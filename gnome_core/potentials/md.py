"""Molecular dynamics with a trained potential: jax-md's integrators and multi-image neighbour lists.

Steps run on the device until a frame is due or an atom has moved half the skin; then neighbours are searched anew.
A list that overflows is allocated larger. A run that goes wrong ends with the reason and keeps its frames.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np
from jax_md import simulate
from jax_md.custom_partition import neighbor_list_multi_image
from jax_md.partition import NeighborListFormat

from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.supercells import repeated
from gnome_core.files import replacing
from gnome_core.graphs.edges import BLOCK, EdgeBatch
from gnome_core.models.elements import ATOMIC_MASSES
from gnome_core.potentials.gradients import predict
from gnome_core.potentials.md_config import MDConfig
from gnome_core.potentials.nequip_potential import TrainedPotential

KELVIN = 8.617333262e-5  # eV
FEMTOSECOND = 1 / 10.180505710  # in Å (amu / eV)^(1/2), the time unit of eV, Å and atomic mass units
MIN_DISTANCE = 0.6  # Å; no two atoms come closer at any temperature of interest


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of one run; frame 0 is the start.

    crystal: the start, a supercell of what was given if config.min_length asked for one; its cell is that of all
    frames. positions: (f, n, 3) Å, unwrapped. times: (f,) ps. energies: (f,) eV, potential. temperatures: (f,) K.
    stopped: why the run ended early, or None. digest: what it was made of (`run_digest`).
    """

    crystal: Crystal
    positions: np.ndarray
    times: np.ndarray
    energies: np.ndarray
    temperatures: np.ndarray
    stopped: str | None
    config: MDConfig
    scale: str
    digest: str = ""

    @property
    def total_energies(self) -> np.ndarray:
        """(f,) eV: potential and kinetic; conserved in nve."""
        degrees = 3 * self.crystal.n_sites - 3
        return self.energies + 0.5 * degrees * KELVIN * self.temperatures


class Neighbors(NamedTuple):
    """Blocks of edges (see `gnome_core.graphs.edges`) as long as no atom moved half the skin from `reference`.

    receivers: (b,); senders, real: (b, BLOCK); offsets: (b, BLOCK, 3) Å, what vectors need beside the positions.
    """

    receivers: jax.Array
    senders: jax.Array
    real: jax.Array
    offsets: jax.Array
    reference: jax.Array
    overflow: jax.Array


class NeighborSearch:
    """Finds neighbours of all periodic images. Arrays have fixed sizes; `search` enlarges them when they overflow."""

    def __init__(self, lattice: np.ndarray, reach: float, spare: float = 1.15):
        # jax-md's boxes have the lattice vectors in their columns.
        self.lattice = jnp.asarray(lattice, jnp.float32)
        self.inverse = jnp.linalg.inv(self.lattice)
        self.reach, self.spare = reach, spare
        self.functions = neighbor_list_multi_image(
            None, self.lattice.T, reach, fractional_coordinates=False, format=NeighborListFormat.Dense
        )
        self.list: Any = None
        self.capacity = 0
        self.n_allocations = 0

    def search(self, positions: jax.Array) -> Neighbors:
        """Neighbours at these unwrapped positions (n, 3)."""
        if self.list is None:
            self._allocate(positions)
        while True:
            found, self.list = _search(self.list, positions, self.lattice, self.inverse, self.capacity)
            if not bool(found.overflow):
                return found
            self._allocate(positions)

    def _allocate(self, positions: jax.Array) -> None:
        # Atoms outside the cell would miss neighbours: jax-md searches images of the cell itself.
        wrapped = positions - jnp.floor(positions @ self.inverse) @ self.lattice
        self.list = self.functions.allocate(wrapped)
        n = len(positions)
        degree = (jnp.asarray(self.list.idx) < n).sum(1)
        n_blocks = int((-(-degree // BLOCK)).sum())
        self.capacity = max(int(self.spare * n_blocks) + n // BLOCK + 1, self.capacity)
        self.n_allocations += 1


@partial(jax.jit, static_argnums=4)
def _search(
    neighbors: Any, positions: jax.Array, lattice: jax.Array, inverse: jax.Array, capacity: int
) -> tuple[Neighbors, Any]:
    """Update jax-md's dense list and put its edges into `capacity` blocks, the empty ones last."""
    cells = jnp.floor(positions @ inverse)
    neighbors = neighbors.update(positions - cells @ lattice)
    n, width = neighbors.idx.shape
    spare = -width % BLOCK
    senders = jnp.pad(neighbors.idx, ((0, 0), (0, spare)), constant_values=n).reshape(-1, BLOCK)
    shifts = jnp.pad(neighbors.shifts, ((0, 0), (0, spare), (0, 0))).reshape(-1, BLOCK, 3)
    receivers = jnp.repeat(jnp.arange(n), (width + spare) // BLOCK)
    # The nearest come first, so that a block without a first edge has none. One empty block serves for all padding.
    senders = jnp.pad(senders, ((0, 1), (0, 0)), constant_values=n)
    shifts = jnp.pad(shifts, ((0, 1), (0, 0), (0, 0)))
    receivers = jnp.append(receivers, n)
    used = senders[:, 0] < n
    order = jnp.argsort(~used, stable=True)
    order = jnp.pad(order, (0, max(0, capacity - len(order))), constant_values=len(used) - 1)[:capacity]
    receivers = jnp.where(used[order], receivers[order], n)
    real = senders[order] < n
    senders = jnp.where(real, senders[order], receivers[:, None])
    # Sender j seen from receiver i sits at R_j + shift - cell_j + cell_i, in lattice vectors.
    cells = jnp.pad(cells, ((0, 1), (0, 0)))
    images = shifts[order] - cells[senders] + cells[receivers][:, None]
    overflow = neighbors.did_buffer_overflow | (used.sum() > capacity)
    return Neighbors(receivers, senders, real, images @ lattice, positions, overflow), neighbors


def energy_and_forces(potential: TrainedPotential, numbers: np.ndarray) -> Callable:
    """A function of (positions (n, 3), Neighbors) -> (eV less the shifts, (n, 3) eV/Å); what jax-md integrates."""
    n = len(numbers)
    padded = jnp.asarray(np.append(numbers, numbers[0]).astype(np.int32))
    graph, level = jnp.append(jnp.zeros(n, jnp.int32), 1), jnp.zeros(n + 1, jnp.int32)
    n_atoms = jnp.array([n, 1], jnp.float32)
    far = 2 * potential.cutoff

    def evaluate(positions: jax.Array, neighbors: Neighbors) -> tuple[jax.Array, jax.Array]:
        vectors = edge_vectors(positions, neighbors)
        vectors = jnp.where(neighbors.real[..., None], vectors, jnp.array([far, 0.0, 0.0], positions.dtype))
        batch = EdgeBatch(padded, graph, level, n_atoms, neighbors.receivers, neighbors.senders, vectors)
        prediction = predict(potential.network, potential.variables, batch)
        return prediction.atoms[:n].sum(), prediction.forces[:n]

    return evaluate


def edge_vectors(positions: jax.Array, neighbors: Neighbors) -> jax.Array:
    """(b, BLOCK, 3) Å from sender to receiver; meaningless where `neighbors.real` is False."""
    positions = jnp.concatenate([positions, jnp.zeros((1, 3), positions.dtype)])
    return positions[neighbors.receivers][:, None] - positions[neighbors.senders] - neighbors.offsets


@contextmanager
def _sums_in_single_precision() -> Generator[None]:
    """jax-md asks for sums in double precision; where jax has none, it does without, and warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Explicitly requested dtype float64")
        yield


@_sums_in_single_precision()
def run_md(
    crystal: Crystal,
    potential: TrainedPotential,
    config: MDConfig | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """Integrate from the crystal's positions with random velocities.

    checkpoint: a file; a run that finds its own state there goes on from it, to the same frames. progress is called
    with steps done and steps in all. Raises UnknownElement or IsolatedAtom.
    """
    config = config or MDConfig()
    potential.check(crystal)
    crystal = repeated(crystal, config.min_length)
    run = _Run(crystal, potential, config, seed)
    state, frames = run.start() if (loaded := run.load(checkpoint)) is None else loaded
    between = max(1, round(config.checkpoint_every * 1000 / config.timestep / config.save_every))
    stopped = None
    while (step := (len(frames.energies) - 1) * config.save_every) < config.n_steps and stopped is None:
        state, neighbors = run.advance(state, step)
        energy, shortest = run.observe(state.position, neighbors)
        frames.add(state.position, energy, run.temperature(state))
        stopped = run.complaint(frames, float(shortest))
        if checkpoint is not None and len(frames.energies) % between == 0 and stopped is None:
            run.save(checkpoint, state, frames)
        if progress is not None:
            progress(step + config.save_every, config.n_steps)
    n = len(frames.energies)
    shift = potential.shifts[crystal.numbers].sum()
    return Trajectory(
        crystal,
        np.array(frames.positions),
        np.arange(n) * config.save_every * config.timestep / 1000,
        np.array(frames.energies) + shift,
        np.array(frames.temperatures),
        stopped,
        config,
        potential.scale,
        run.digest,
    )


def run_digest(crystal: Crystal, potential: TrainedPotential, config: MDConfig | None = None, seed: int = 0) -> str:
    """32 hex characters that name what `run_md` of the same arguments makes: it depends on nothing else."""
    config = config or MDConfig()
    return _digest_of(repeated(crystal, config.min_length), potential, config, seed)


def _digest_of(crystal: Crystal, potential: TrainedPotential, config: MDConfig, seed: int) -> str:
    # The scale names the weights. How often a run is kept on the disk changes no frame of it.
    parts = (config.model_dump_json(exclude={"checkpoint_every"}), seed, potential.scale)
    digest = hashlib.blake2b(json.dumps([*parts, potential.record.model_dump_json()]).encode(), digest_size=16)
    for array in (crystal.lattice, crystal.frac_coords, crystal.numbers):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class _Frames:
    def __init__(self):
        self.positions: list[np.ndarray] = []
        self.energies: list[float] = []
        self.temperatures: list[float] = []

    def add(self, position: jax.Array, energy: jax.Array | float, temperature: float) -> None:
        self.positions.append(np.asarray(position, np.float32))
        self.energies.append(float(energy))
        self.temperatures.append(temperature)


class _Run:
    """The compiled pieces of one run."""

    def __init__(self, crystal: Crystal, potential: TrainedPotential, config: MDConfig, seed: int):
        self.crystal, self.config, self.seed, self.potential = crystal, config, seed, potential
        self.masses = jnp.asarray(ATOMIC_MASSES[crystal.numbers], jnp.float32)[:, None]
        self.search = NeighborSearch(crystal.lattice, potential.cutoff + config.skin)
        self.evaluate = energy_and_forces(potential, crystal.numbers)
        dt = config.timestep * FEMTOSECOND

        def shift(positions: jax.Array, move: jax.Array, **_) -> jax.Array:
            return positions + move

        def forces(positions: jax.Array, neighbors: Neighbors, **_) -> jax.Array:
            return self.evaluate(positions, neighbors)[1]

        if config.ensemble == "nve":
            init, step = simulate.nve(forces, shift, dt)
        else:
            init, step = simulate.nvt_nose_hoover(
                forces, shift, dt, KELVIN * config.start_temperature, tau=config.damping * dt
            )
        self.init: Callable = init
        ramp_steps = config.ramp * 1000 / config.timestep

        def target(step_number: jax.Array) -> jax.Array:
            done = jnp.clip((step_number + 1) / max(ramp_steps, 1), 0, 1)
            return KELVIN * (config.start_temperature + done * (config.temperature - config.start_temperature))

        def go_on(carry: tuple) -> jax.Array:
            state, number, end, neighbors = carry
            moved = jnp.linalg.norm(state.position - neighbors.reference, axis=1).max()
            # The next step must not leave the list's reach either.
            fastest = jnp.linalg.norm(state.momentum / state.mass, axis=1).max() * dt
            return (number < end) & ((moved + fastest < config.skin / 2) | (moved == 0))

        def one(carry: tuple) -> tuple:
            state, number, end, neighbors = carry
            options = {"neighbors": neighbors}
            if config.ensemble == "nvt":
                options["kT"] = target(number)
            return step(state, **options), number + 1, end, neighbors

        @jax.jit
        def block(state: Any, number: jax.Array, end: jax.Array, neighbors: Neighbors) -> tuple:
            state, number, _, _ = jax.lax.while_loop(go_on, one, (state, number, end, neighbors))
            return state, number

        @jax.jit
        def observe(positions: jax.Array, neighbors: Neighbors) -> tuple[jax.Array, jax.Array]:
            """Potential energy less the shifts (eV), and the shortest distance of two atoms (Å)."""
            lengths = jnp.linalg.norm(edge_vectors(positions, neighbors), axis=-1)
            shortest = jnp.where(neighbors.real, lengths, jnp.inf).min(initial=jnp.inf)
            return self.evaluate(positions, neighbors)[0], shortest

        self.block, self.observe = block, observe

    def start(self) -> tuple[Any, _Frames]:
        positions = jnp.asarray(self.crystal.positions, jnp.float32)
        neighbors = self.search.search(positions)
        temperature = self.config.start_temperature
        state = self.init(
            jax.random.key(self.seed), positions, mass=self.masses, kT=KELVIN * temperature, neighbors=neighbors
        )
        frames = _Frames()
        frames.add(positions, self.observe(positions, neighbors)[0], self.temperature(state))
        return state, frames

    def advance(self, state: Any, step: int) -> tuple[Any, Neighbors]:
        """From frame to frame: the state after `save_every` steps, and its neighbours."""
        number, end = jnp.int32(step), jnp.int32(step + self.config.save_every)
        while int(number) < int(end):
            neighbors = self.search.search(state.position)
            state, number = self.block(state, number, end, neighbors)
        return state, self.search.search(state.position)

    def temperature(self, state: Any) -> float:
        kinetic = float(0.5 * (jnp.square(state.momentum) / state.mass).sum())
        return 2 * kinetic / max(3 * self.crystal.n_sites - 3, 1) / KELVIN

    def complaint(self, frames: _Frames, shortest: float) -> str | None:
        """Why the run must end here, or None."""
        energy, temperature = frames.energies[-1], frames.temperatures[-1]
        at = f"at {(len(frames.energies) - 1) * self.config.save_every * self.config.timestep / 1000:.2f} ps"
        if not (np.isfinite(energy) and np.isfinite(temperature) and np.isfinite(frames.positions[-1]).all()):
            return f"not finite {at}"
        limit = 3 * max(self.config.temperature, self.config.start_temperature) + 1000
        if temperature > limit:
            return f"exploded {at}: {temperature:.0f} K, more than {limit:.0f} K"
        if shortest < MIN_DISTANCE:
            return f"collapsed {at}: two atoms {shortest:.2f} Å apart"
        return None

    @property
    def digest(self) -> str:
        """What a checkpoint belongs to."""
        return _digest_of(self.crystal, self.potential, self.config, self.seed)

    def save(self, path: str | Path, state: Any, frames: _Frames) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"state_{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(state))}
        arrays |= {"digest": self.digest, "positions": np.array(frames.positions)}
        arrays |= {"energies": frames.energies, "temperatures": frames.temperatures}
        with replacing(path) as file:
            np.savez(file, **arrays)

    def load(self, path: str | Path | None) -> tuple[Any, _Frames] | None:
        """State and frames of a checkpoint; None without one of this very run that is whole."""
        if path is None:
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                kept = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, BadZipFile):
            return None
        if str(kept.get("digest")) != self.digest:
            return None
        frames = _Frames()
        frames.positions = list(kept["positions"])
        frames.energies, frames.temperatures = kept["energies"].tolist(), kept["temperatures"].tolist()
        state, _ = self.start()
        leaves, structure = jax.tree.flatten(state)
        return jax.tree.unflatten(structure, [jnp.asarray(kept[f"state_{i}"]) for i in range(len(leaves))]), frames
