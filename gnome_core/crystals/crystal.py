"""The crystal record every other module passes around: three plain arrays."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER
from gnome_core.errors import GnomeError

MAX_SITES = 1000  # atoms in a cell
MAX_LENGTH = 1e4  # Å, of a lattice vector
MAX_COORDINATE = 1e6  # fractional: more leaves a double too few digits to say where in the cell


class InvalidCrystal(GnomeError, ValueError):
    """A crystal that no stage can use. `reason` is a short snake_case name that dead letters are counted by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Crystal:
    """A periodic crystal.

    lattice: (3, 3) float64, lattice vectors as rows, Å.
    frac_coords: (n, 3) float64, fractional coordinates.
    numbers: (n,) uint8, atomic numbers. Raises InvalidCrystal for numbers that no uint8 holds.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    numbers: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "lattice", np.asarray(self.lattice, np.float64).reshape(3, 3))
        object.__setattr__(self, "frac_coords", np.asarray(self.frac_coords, np.float64).reshape(-1, 3))
        object.__setattr__(self, "numbers", _as_uint8(self.numbers).reshape(-1))

    @property
    def n_sites(self) -> int:
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Cell volume, Å^3."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def positions(self) -> np.ndarray:
        """(n, 3) Cartesian coordinates, Å."""
        return self.frac_coords @ self.lattice

    def scaled_to_volume(self, volume: float) -> Crystal:
        """The same crystal, its cell scaled isotropically to `volume` (Å^3)."""
        return Crystal(self.lattice * (volume / self.volume) ** (1 / 3), self.frac_coords, self.numbers)


def _as_uint8(numbers: np.ndarray) -> np.ndarray:
    numbers = np.asarray(numbers)
    # A plain cast would turn element 350 into plutonium.
    if numbers.dtype != np.uint8 and numbers.size and not (numbers.min() >= 0 and numbers.max() <= 255):
        raise InvalidCrystal("unknown_element", f"atomic numbers must lie in 1..{MAX_ATOMIC_NUMBER}")
    return numbers.astype(np.uint8, copy=False)


def shortest_distance(crystal: Crystal, cutoff: float) -> float:
    """Shortest distance below `cutoff` between two atoms or an atom and its own image, Å; infinity if there is none.

    Exact for any cell: an atom closer than `cutoff` lies in an image less than cutoff / height + 1/2 cells away,
    so most cells need only the nearest image of each pair.
    """
    _, heights, _ = _cell_geometry(crystal.lattice)
    first, second = (table[: crystal.n_sites * (crystal.n_sites - 1) // 2] for table in _pairs(crystal.n_sites))
    delta = crystal.frac_coords[first] - crystal.frac_coords[second]
    delta -= np.rint(delta)
    reach = [math.ceil(cutoff / height + 0.5) - 1 for height in heights]
    shortest = np.inf
    for image in itertools.product(*(range(-m, m + 1) for m in reach)):
        if any(image):
            shortest = min(shortest, float(np.linalg.norm(image @ crystal.lattice)))
        if len(delta):
            cartesian = (delta + image if any(image) else delta) @ crystal.lattice
            shortest = min(shortest, math.sqrt(np.einsum("ij,ij->i", cartesian, cartesian).min()))
    return shortest if shortest < cutoff else np.inf


def check_crystal(crystal: Crystal, min_distance: float = 0.5, max_sites: int = MAX_SITES) -> None:
    """Raise `InvalidCrystal` unless the crystal is finite, has a cell, known elements and no overlapping atoms.

    min_distance: Å; closer atoms are taken for a broken file.
    """
    if crystal.n_sites == 0:
        raise InvalidCrystal("no_sites", "the crystal has no atoms; remove it from the input")
    if len(crystal.frac_coords) != crystal.n_sites:
        raise InvalidCrystal(
            "length_mismatch",
            f"{len(crystal.frac_coords)} coordinates for {crystal.n_sites} atoms; re-export it",
        )
    if crystal.n_sites > max_sites:
        raise InvalidCrystal("too_many_sites", f"{crystal.n_sites} atoms, at most {max_sites}; use its primitive cell")
    check_finite(crystal)
    if np.abs(crystal.lattice).max() > MAX_LENGTH:
        longest = np.abs(crystal.lattice).max()
        raise InvalidCrystal("bad_lattice", f"a lattice vector of {longest:.3g} Å, at most {MAX_LENGTH:g}; check units")
    if np.abs(crystal.frac_coords).max() > MAX_COORDINATE:
        largest = np.abs(crystal.frac_coords).max()
        raise InvalidCrystal("bad_coordinates", f"a fractional coordinate is {largest:.3g}; correct it")
    lengths, _, volume = _cell_geometry(crystal.lattice)
    # A cell flatter than 1 % of its box is a typing error, and neighbour searches would run for ever.
    if volume < 1.0 or volume < 0.01 * math.prod(lengths):
        sizes = ", ".join(f"{length:.3f}" for length in lengths)
        raise InvalidCrystal("bad_lattice", f"cell volume {volume:.3g} Å^3 for lengths {sizes} Å; check the cell")
    if crystal.numbers.min() < 1 or crystal.numbers.max() > MAX_ATOMIC_NUMBER:
        raise InvalidCrystal("unknown_element", f"atomic numbers must lie in 1..{MAX_ATOMIC_NUMBER}; correct them")
    # A cell thinner than min_distance would need countless images, and its atoms overlap with their own anyway.
    distance = min(lengths)
    if distance >= min_distance:
        distance = shortest_distance(crystal, min_distance)
    if distance < min_distance:
        raise InvalidCrystal("overlapping_atoms", f"two atoms {distance:.3f} Å apart; merge or move them")


def check_finite(crystal: Crystal) -> None:
    """Raise `InvalidCrystal` for a lattice or coordinates with NaN or infinity."""
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        raise InvalidCrystal("not_finite", "lattice or coordinates hold NaN or infinity; re-export the structure")


def _cell_geometry(lattice: np.ndarray) -> tuple[list[float], list[float], float]:
    """Lengths of the lattice vectors, heights of the cell along them (Å), volume (Å^3).

    Plain floats: numpy takes ten times as long for nine numbers, and readers check millions of crystals.
    """
    a, b, c = lattice.tolist()
    normals = [
        (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
        for u, v in ((b, c), (c, a), (a, b))
    ]
    volume = abs(sum(x * y for x, y in zip(a, normals[0], strict=True)))
    areas = [math.hypot(*normal) for normal in normals]
    return [math.hypot(*vector) for vector in (a, b, c)], [volume / area if area else 0.0 for area in areas], volume


def _pairs(n_sites: int) -> tuple[np.ndarray, np.ndarray]:
    return _pair_table(1 << max(8, (n_sites - 1).bit_length()))


@lru_cache(maxsize=4)
def _pair_table(size: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs below `size`, ordered so that the first n (n - 1) / 2 are the pairs of the first n atoms."""
    return np.tril_indices(size, -1)


def crystal_digest(crystal: Crystal) -> str:
    """32 hex characters that identify the crystal to 1e-6 (Å and fractional), coordinates wrapped to [0, 1)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(crystal.numbers.tobytes())
    digest.update(np.round(crystal.lattice * 1e6).astype("<i8").tobytes())
    frac = np.round((crystal.frac_coords % 1.0) * 1e6).astype("<i8") % 1_000_000
    digest.update(frac.tobytes())
    return digest.hexdigest()


def invalid_reason(crystal: Crystal | None) -> str | None:
    """Why a candidate cannot be used, or None; a missing crystal is one whose atoms found no room."""
    if crystal is None:
        return "packing_failed"
    try:
        check_crystal(crystal)
    except InvalidCrystal as error:
        return error.reason
    return None
