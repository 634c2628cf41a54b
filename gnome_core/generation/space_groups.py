"""Space groups for building cells: operations, orbits of every Wyckoff position, lattices of the group's symmetry.

All in the primitive cell, so that an orbit has as many points as a cell will hold atoms. Operations come from moyopy;
the Wyckoff positions are worked out from them: they are the points, lines and planes that operations leave fixed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

N_GROUPS = 230
_CLOSE = 1e-5


@dataclass(frozen=True, eq=False)
class Orbit:
    """The m points of a Wyckoff position in the primitive cell, for any y in R^3: rotations @ y + translations.

    rotations: (m, 3, 3), translations: (m, 3), fractional. The first maps y to the point of the position nearest to it.
    freedom: from 3 (the general position) to 0 (fixed points, which only one orbit of a crystal can occupy).
    """

    rotations: np.ndarray
    translations: np.ndarray
    freedom: int

    @property
    def multiplicity(self) -> int:
        return len(self.rotations)


class _Flat(NamedTuple):
    """Points x = projector @ y + origin: all of space, a plane, a line or a point. origin is the one nearest to 0."""

    projector: np.ndarray
    origin: np.ndarray

    @property
    def freedom(self) -> int:
        return round(float(np.trace(self.projector)))


@cache
def operations(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (g, 3, 3) and translations (g, 3) of space group 1..230 in its primitive cell: x' = W x + w."""
    import moyopy

    found = moyopy.operations_from_number(number, primitive=True)
    return np.array(found.rotations, float), np.array(found.translations, float) % 1.0


@cache
def orbits(number: int) -> tuple[Orbit, ...]:
    """The Wyckoff positions of a space group, by falling freedom and multiplicity: the general position comes first."""
    rotations, translations = operations(number)
    fixed = _fixed_flats(rotations, translations)
    found, pending = [], [_Flat(np.eye(3), np.zeros(3))]
    while pending:
        flat = pending.pop()
        if any(_equivalent(flat, other, rotations, translations) for other in found):
            continue
        found.append(flat)
        pending += _meets(flat, fixed)
    made = [_orbit(flat, rotations, translations) for flat in found]
    return tuple(sorted(made, key=lambda orbit: (-orbit.freedom, -orbit.multiplicity)))


def symmetric_lattice(number: int, lattice: np.ndarray) -> np.ndarray:
    """The lattice (3, 3; rows, any length unit) with its metric averaged over the group, turned as it comes."""
    rotations, _ = operations(number)
    metric = lattice @ lattice.T
    return np.linalg.cholesky(np.einsum("gji,jk,gkl->il", rotations, metric, rotations) / len(rotations))


@cache
def tensor_averaging(number: int) -> np.ndarray:
    """(9, 9): averages a tensor of fractional components, flattened, over the group: the mean of kron(W, W)."""
    rotations, _ = operations(number)
    return np.mean([np.kron(rotation, rotation) for rotation in rotations], axis=0)


_SHIFTS = np.array(list(itertools.product(range(-2, 3), repeat=3)), float)  # lattice translations near the cell


def _solve(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solutions x of matrix (.., m, 3) x = right (.., m) as flats: (projectors, origins, whether there are any)."""
    inverse = np.linalg.pinv(matrix, rcond=_CLOSE)
    origin = np.einsum("...ij,...j->...i", inverse, right)
    residual = np.einsum("...ij,...j->...i", matrix, origin) - right
    return np.eye(3) - inverse @ matrix, origin, np.abs(residual).max(axis=-1) < _CLOSE


def _fixed_flats(rotations: np.ndarray, translations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projectors (f, 3, 3) and origins (f, 3) of all flats near the cell that some operation leaves fixed pointwise."""
    shifted = translations[:, None, :] + _SHIFTS
    moved = np.broadcast_to((np.eye(3) - rotations)[:, None], (*shifted.shape[:2], 3, 3))
    projectors, origins, exist = _solve(moved, shifted)
    projectors, origins = _distinct(*_into_cell(projectors[exist], origins[exist]))
    away = np.eye(3) - projectors
    origins = np.einsum("fij,fsj->fsi", away, origins[:, None, :] + _SHIFTS)
    projectors = np.repeat(projectors, len(_SHIFTS), axis=0)
    return _distinct(projectors, origins.reshape(-1, 3))


def _into_cell(projectors: np.ndarray, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The flats moved by lattice translations until their origins lie within about a cell of 0."""
    away = np.eye(3) - projectors
    for _ in range(4):
        origins = np.einsum("fij,fj->fi", away, origins - np.floor(origins + _CLOSE))
    return projectors, origins


def _distinct(projectors: np.ndarray, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys = np.round(np.hstack([projectors.reshape(-1, 9), origins]) / (10 * _CLOSE)).astype(np.int64)
    _, first = np.unique(keys, axis=0, return_index=True)
    return projectors[first], origins[first]


def _meets(flat: _Flat, fixed: tuple[np.ndarray, np.ndarray]) -> list[_Flat]:
    """What the flat has in common with each fixed flat, where that is less than the flat itself."""
    projectors, origins = fixed
    away = np.eye(3) - projectors
    matrix = np.concatenate([np.broadcast_to(np.eye(3) - flat.projector, away.shape), away], axis=1)
    right = np.concatenate([np.broadcast_to(flat.origin, origins.shape), origins], axis=1)
    common, origin, exist = _solve(matrix, right)
    smaller = exist & (np.round(np.trace(common, axis1=1, axis2=2)) < flat.freedom)
    common, origin = _distinct(*_into_cell(common[smaller], origin[smaller]))
    return [_Flat(*pair) for pair in zip(common, origin, strict=True)]


def _equivalent(flat: _Flat, other: _Flat, rotations: np.ndarray, translations: np.ndarray) -> bool:
    """Whether an operation and a lattice translation carry one flat to the other."""
    if flat.freedom != other.freedom:
        return False
    away = np.eye(3) - other.projector
    parallel = np.abs(away @ rotations @ flat.projector).max(axis=(1, 2)) < _CLOSE
    gaps = rotations[parallel] @ flat.origin + translations[parallel] - other.origin
    return bool((np.abs((gaps[:, None, :] + _SHIFTS) @ away.T).max(axis=2) < _CLOSE).any())


def _orbit(flat: _Flat, rotations: np.ndarray, translations: np.ndarray) -> Orbit:
    """The distinct images of a flat, those of a point of it that no further operation leaves in place."""
    generic = flat.projector @ np.array([0.1234567, 0.3456789, 0.5678901]) + flat.origin
    images = rotations @ generic + translations
    first = []
    for i, image in enumerate(images):
        gap = images[first] - image
        if not (np.abs(gap - np.round(gap)).max(axis=1, initial=0) < _CLOSE).any() or not first:
            first.append(i)
    turned = rotations[first]
    return Orbit(turned @ flat.projector, turned @ flat.origin + translations[first], flat.freedom)
