"""The crystal record every other module passes around: three plain arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

MAX_ATOMIC_NUMBER = 94  # plutonium: the last element GNoME's and CHGNet's tables hold


class InvalidCrystal(ValueError):
    """A crystal that no stage can use. `reason` is a short snake_case name that dead letters are counted by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Crystal:
    """A periodic crystal.

    lattice: (3, 3) float64, lattice vectors as rows, Å.
    frac_coords: (n, 3) float64, fractional coordinates.
    numbers: (n,) uint8, atomic numbers.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    numbers: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "lattice", np.asarray(self.lattice, np.float64).reshape(3, 3))
        object.__setattr__(self, "frac_coords", np.asarray(self.frac_coords, np.float64).reshape(-1, 3))
        object.__setattr__(self, "numbers", np.asarray(self.numbers, np.uint8).reshape(-1))

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


def shortest_distance(crystal: Crystal) -> float:
    """Shortest distance between two atoms or an atom and its own image, Å (exact for reduced cells)."""
    images = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    frac = crystal.frac_coords
    delta = frac[None, :, :] - frac[:, None, :]
    delta -= np.round(delta)
    distance = np.linalg.norm((delta[:, :, None, :] + images) @ crystal.lattice, axis=-1)
    self_image = np.eye(len(frac), dtype=bool)[:, :, None] & ~images.any(axis=1)[None, None, :]
    return float(np.min(np.where(self_image, np.inf, distance)))


def check_crystal(crystal: Crystal, min_distance: float = 0.5, max_sites: int = 1000) -> None:
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
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        raise InvalidCrystal("not_finite", "lattice or coordinates hold NaN or infinity; re-export the structure")
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    # A cell flatter than 1 % of its box is a typing error, and neighbour searches would run for ever.
    if crystal.volume < 1.0 or crystal.volume < 0.01 * np.prod(lengths):
        raise InvalidCrystal(
            "bad_lattice", f"cell volume {crystal.volume:.3g} Å^3 for lengths {lengths.round(3)}; check it"
        )
    if crystal.numbers.min() < 1 or crystal.numbers.max() > MAX_ATOMIC_NUMBER:
        raise InvalidCrystal("unknown_element", f"atomic numbers must lie in 1..{MAX_ATOMIC_NUMBER}")
    distance = shortest_distance(crystal)
    if distance < min_distance:
        raise InvalidCrystal("overlapping_atoms", f"two atoms {distance:.3f} Å apart; merge or move them")


def crystal_digest(crystal: Crystal) -> str:
    """32 hex characters that identify the crystal to 1e-6 (Å and fractional), coordinates wrapped to [0, 1)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(crystal.numbers.tobytes())
    digest.update(np.round(crystal.lattice * 1e6).astype("<i8").tobytes())
    frac = np.round((crystal.frac_coords % 1.0) * 1e6).astype("<i8") % 1_000_000
    digest.update(frac.tobytes())
    return digest.hexdigest()
