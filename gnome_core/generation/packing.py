"""Packing of soft spheres: push the atoms of many symmetric cells apart, in padded batches (JAX).

Energy: half the square of every overlap, sum over pairs and images of (s_ij - r_ij)^2 / 2 where r_ij < s_ij. Atoms move
within their orbits and the cell changes its shape at constant volume, so symmetry and density stay what they were. FIRE
(Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)), each cell on its own clock, until nothing overlaps.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

# (atoms, orbits) that a program is compiled for: what a step costs goes with their product.
LADDER = ((6, 6), (12, 6), (12, 12), (24, 12), (24, 24), (64, 32), (64, 64))
MAX_ATOMS = LADDER[-1][0]
BATCH_PAIRS = 8192  # rows of a batch: this over atoms x orbits of its shape
STEPS_PER_CALL = 10
MAX_STEPS = 100  # more than nine cells in ten are done by then; the others are better begun again
TIME_STEP = 0.3
MARGIN = 0.03  # spheres are pushed to be this much wider than they need to be
IMAGES = np.array(list(itertools.product((0, 1, -1), repeat=3)), np.float32)  # the cell's own first

T = TypeVar("T")
Leaf = Any  # a numpy array outside of programs, a traced one within


@dataclass(frozen=True, eq=False)
class LooseCell:
    """A cell whose atoms may overlap.

    lattice: (3, 3) rows, Å, reduced. Atom j of orbit o lies at rotations[j] @ free[o] + translations[j], fractional.
    rotations: (n, 3, 3). translations: (n, 3). orbit: (n,) int, ascending. free: (m, 3), one point an orbit.
    separations: (m, n) Å, the shortest distance allowed between the first atom of each orbit and every atom.
    averaging: (9, 9), the mean of kron(W, W) over the rotations W of the group: makes a tensor symmetric.
    """

    lattice: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    orbit: np.ndarray
    free: np.ndarray
    separations: np.ndarray
    averaging: np.ndarray

    @property
    def n_atoms(self) -> int:
        return len(self.orbit)

    def frac_coords(self) -> np.ndarray:
        """(n, 3)."""
        return np.einsum("nij,nj->ni", self.rotations, self.free[self.orbit]) + self.translations


class _Cells(NamedTuple):
    """What stays fixed in a batch of B cells padded to n atoms and m orbits."""

    rotations: Leaf  # (B, n, 3, 3)
    translations: Leaf  # (B, n, 3)
    orbit: Leaf  # (B, n)
    first: Leaf  # (B, m) first atom of each orbit
    weight: Leaf  # (B, m) atoms of each orbit, 0 = padding
    separations: Leaf  # (B, m, n), 0 = padding
    averaging: Leaf  # (B, 9, 9)


class _Motion(NamedTuple):
    """What moves."""

    free: Leaf  # (B, m, 3)
    lattice: Leaf  # (B, 3, 3)
    velocity: Leaf  # (B, m + 3, 3): of the orbits' first atoms, then of the strain times the atom count
    dt: Leaf  # (B,)
    mixing: Leaf  # (B,)
    downhill: Leaf  # (B,) int
    done: Leaf  # (B,) bool: nothing overlaps


class _Try(NamedTuple):
    """An attempt at packing a cell."""

    index: int
    attempt: int
    cell: LooseCell


def pack(
    n: int, start: Callable[[int, int], LooseCell], finish: Callable[[int, LooseCell], T | None], attempts: int
) -> list[T | None]:
    """Pack n cells: start(i, attempt) gives cell i, finish(i, packed) its answer.

    A cell that is not packed after `MAX_STEPS` steps, or that `finish` answers with None, is begun again with the next
    attempt, 0 to attempts - 1; after the last its answer is None. Answers do not depend on which cells are packed
    together: each is computed in a shape chosen by its own size, in batches of one length whose places are filled again
    as cells leave. Raises ValueError for a cell of more than 64 atoms.
    """
    answers: list[T | None] = [None] * n
    waiting: dict[tuple[int, int], deque[_Try]] = {shape: deque() for shape in LADDER}

    def begin(i: int, attempt: int) -> None:
        cell = start(i, attempt)
        fits = [shape for shape in LADDER if cell.n_atoms <= shape[0] and len(cell.free) <= shape[1]]
        if not fits:
            raise ValueError(f"cell {i} has {cell.n_atoms} atoms; at most {MAX_ATOMS} can be packed")
        waiting[fits[0]].append(_Try(i, attempt, cell))

    for i in range(n):
        begin(i, 0)
    while any(waiting.values()):
        for shape, tries in waiting.items():
            for done, packed in _packed(shape, tries):
                if packed is not None:
                    answers[done.index] = finish(done.index, packed)
                if answers[done.index] is None and done.attempt + 1 < attempts:
                    begin(done.index, done.attempt + 1)
    return answers


def _packed(shape: tuple[int, int], waiting: deque[_Try]) -> Iterator[tuple[_Try, LooseCell | None]]:
    """Each try of one shape as it ends; `waiting` may grow meanwhile."""
    if not waiting:
        return
    fixed, motion = _empty(shape, BATCH_PAIRS // (shape[0] * shape[1]))
    places: list[_Try | None] = [None] * len(motion.done)
    steps = np.zeros(len(places), int)
    while waiting or any(places):
        for place, tried in enumerate(places):
            if tried is None and waiting:
                places[place] = new = waiting.popleft()
                steps[place] = 0
                _put(new.cell, fixed, motion, place)
        motion = jax.tree.map(np.array, _advance(fixed, motion))
        steps += STEPS_PER_CALL
        for place, tried in enumerate(places):
            if tried is None or not (motion.done[place] or steps[place] >= MAX_STEPS):
                continue
            yield tried, _moved(tried.cell, motion, place) if motion.done[place] else None
            places[place], motion.done[place] = None, True


def _empty(shape: tuple[int, int], size: int) -> tuple[_Cells, _Motion]:
    """A batch of places without atoms."""
    n, m = shape

    def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
        return np.zeros((size, *shape), dtype)

    whole = [zeros(k, dtype=np.int32) for k in shape]
    fixed = _Cells(zeros(n, 3, 3), zeros(n, 3), *whole, zeros(m), zeros(m, n), zeros(9, 9))
    lattice = zeros(3, 3) + np.eye(3, dtype=np.float32)
    downhill, done = zeros(dtype=np.int32), np.ones(size, bool)
    return fixed, _Motion(zeros(m, 3), lattice, zeros(m + 3, 3), zeros(), zeros(), downhill, done)


def _put(cell: LooseCell, fixed: _Cells, motion: _Motion, place: int) -> None:
    """Write a cell at rest into its place of a batch."""
    n_orbits = len(cell.free)
    rows = (
        (fixed.rotations, cell.rotations),
        (fixed.translations, cell.translations),
        (fixed.orbit, cell.orbit),
        (fixed.first, np.searchsorted(cell.orbit, np.arange(n_orbits))),
        (fixed.weight, np.bincount(cell.orbit)),
        (fixed.averaging, cell.averaging),
        (motion.free, cell.free),
        (motion.lattice, cell.lattice),
    )
    for leaf, values in rows:
        leaf[place] = 0
        leaf[place, : len(values)] = values
    fixed.separations[place] = 0
    fixed.separations[place, :n_orbits, : cell.n_atoms] = (1 + MARGIN) * cell.separations
    motion.velocity[place] = 0
    motion.dt[place], motion.mixing[place], motion.downhill[place], motion.done[place] = TIME_STEP, 0.1, 0, False


def _moved(cell: LooseCell, motion: _Motion, place: int) -> LooseCell:
    free, lattice = motion.free[place, : len(cell.free)].astype(float), motion.lattice[place].astype(float)
    return replace(cell, free=free, lattice=lattice)


@jax.jit
def _advance(cells: _Cells, motion: _Motion) -> _Motion:
    return jax.lax.fori_loop(0, STEPS_PER_CALL, lambda _, state: jax.vmap(_step)(cells, state), motion)


def _step(cells: _Cells, motion: _Motion) -> _Motion:
    """One FIRE step of one cell, or the check that ends it."""
    n_atoms = jnp.maximum(cells.weight.sum(), 1.0)
    inverse, volume = _inverse(motion.lattice)
    forces, virial, overlapping = _forces(cells, motion.free, motion.lattice)
    # The virial of the first atoms, made that of all by the group: averaged in fractional components.
    virial = (cells.averaging @ (inverse.T @ virial @ inverse).reshape(9)).reshape(3, 3)
    virial = motion.lattice.T @ virial @ motion.lattice
    shear = virial - jnp.trace(virial) / 3 * jnp.eye(3)
    forces = jnp.concatenate([forces, shear / n_atoms])
    v, power = motion.velocity, jnp.vdot(forces, motion.velocity)
    downhill = power >= 0
    mixed = (1 - motion.mixing) * v + motion.mixing * forces * _norm(v) / (_norm(forces) + 1e-12)
    v = jnp.where(downhill, mixed, 0.0)
    grow = downhill & (motion.downhill > 3)
    dt = jnp.where(grow, jnp.minimum(1.15 * motion.dt, 1.0), jnp.where(downhill, motion.dt, 0.5 * motion.dt))
    dt = jnp.maximum(dt, 0.05)
    mixing = jnp.where(grow, 0.99 * motion.mixing, jnp.where(downhill, motion.mixing, 0.1))
    v = v + dt * forces
    move = dt * v
    move = move * jnp.minimum(1.0, 0.3 / (jnp.sqrt((move * move).sum(axis=1)).max() + 1e-12))
    m = len(cells.first)
    strain = move[m:] / n_atoms
    lattice = motion.lattice @ (jnp.eye(3) + strain + strain @ strain / 2)
    lattice = lattice * (volume / _inverse(lattice)[1]) ** (1 / 3)
    free = motion.free + move[:m] @ inverse
    new = _Motion(free, lattice, v, dt, mixing, jnp.where(downhill, motion.downhill + 1, 0), motion.done)
    done = motion.done | ~overlapping
    return jax.tree.map(lambda old, new: jnp.where(done, old, new), motion, new)._replace(done=done)


def _forces(cells: _Cells, free: jax.Array, lattice: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Forces on the first atoms (m, 3), their virial (3, 3), whether any spheres overlap by more than half the margin.

    The virial is a sum over first atoms, each as often as its orbit has atoms, of pushes times vectors squared.
    """
    positions = jnp.einsum("nij,nj->ni", cells.rotations, free[cells.orbit]) + cells.translations
    delta = positions[None, :] - positions[cells.first][:, None]
    delta = (delta - jnp.round(delta)) @ lattice  # (m, n, 3)
    shifts = jnp.asarray(IMAGES) @ lattice
    squared = (delta**2).sum(axis=-1)[..., None] + 2 * delta @ shifts.T + (shifts**2).sum(axis=-1)
    itself = jnp.arange(len(positions)) == cells.first[:, None]
    squared = squared.at[..., 0].add(jnp.where(itself, 1e6, 0.0))
    distance = jnp.sqrt(jnp.maximum(squared, 1e-6))
    allowed = cells.separations[..., None]
    overlapping = (allowed * ((1 + MARGIN / 2) / (1 + MARGIN)) > distance).any()
    push = jnp.maximum(allowed - distance, 0.0) / distance
    by_atom, by_image = push.sum(axis=2), push.sum(axis=1)
    forces = -(jnp.einsum("ij,ijc->ic", by_atom, delta) + by_image @ shifts)
    weighted = cells.weight[:, None] * by_atom
    mixed = jnp.einsum("i,ija,ijk,kb->ab", cells.weight, delta, push, shifts)
    virial = jnp.einsum("ij,ija,ijb->ab", weighted, delta, delta) + mixed + mixed.T
    virial = (virial + jnp.einsum("i,ik,ka,kb->ab", cells.weight, by_image, shifts, shifts)) / 2
    return forces, virial, overlapping


def _inverse(lattice: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse (3, 3) and determinant. XLA's own factorise, which takes most of a step for matrices this small."""
    a, b, c = lattice
    columns = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=1)
    determinant = a @ columns[:, 0]
    return columns / determinant, determinant


def _norm(rows: jax.Array) -> jax.Array:
    return jnp.sqrt((rows * rows).sum())
