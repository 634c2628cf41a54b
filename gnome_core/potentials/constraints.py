"""What a relaxation keeps: the cell, the symmetry, a pressure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import symmetry_dataset


@dataclass(frozen=True)
class Symmetry:
    """Operations of a crystal on fractional coordinates. rotations: (o, 3, 3) int; images: (o, n) the atom that each
    operation takes atom i to."""

    rotations: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, crystal: Crystal, symprec: float = 1e-3) -> Symmetry:
        """The operations that hold to `symprec` Å; the identity alone where none is found."""
        identity = cls(np.eye(3, dtype=int)[None], np.arange(crystal.n_sites)[None])
        found = symmetry_dataset(crystal, symprec)
        if found is None:
            return identity
        rotations, images = [], []
        for rotation, translation in zip(
            found.operations.rotations, np.array(found.operations.translations), strict=True
        ):
            moved = crystal.frac_coords @ np.array(rotation).T + translation
            apart = moved[:, None] - crystal.frac_coords[None]
            apart -= np.round(apart)
            far = np.linalg.norm(apart @ crystal.lattice, axis=-1)
            far[crystal.numbers[:, None] != crystal.numbers[None]] = np.inf
            if (far.min(axis=1) < 10 * symprec).all():
                rotations.append(rotation)
                images.append(far.argmin(axis=1))
        return cls(np.array(rotations), np.array(images)) if rotations else identity

    def average(self, crystal: Crystal, forces: np.ndarray, stress: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) forces and (3, 3) stress, averaged over all operations."""
        # Rows of positions turn by L^-1 R^T L.
        turns = np.linalg.inv(crystal.lattice) @ np.swapaxes(self.rotations, 1, 2) @ crystal.lattice
        averaged = np.zeros_like(forces)
        for turn, image in zip(turns, self.images, strict=True):
            np.add.at(averaged, image, forces @ turn)
        return averaged / len(turns), np.mean(np.swapaxes(turns, 1, 2) @ stress @ turns, axis=0)


@dataclass(frozen=True)
class Constraints:
    """cell: whether the cell may change. pressure: eV/Å^3, from outside. symmetry: to be kept."""

    cell: bool = True
    pressure: float = 0.0
    symmetry: Symmetry | None = field(default=None, repr=False)

    def apply(self, crystal: Crystal, forces: np.ndarray, stress: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The forces (n, 3) and the stress (3, 3) that are to vanish."""
        stress = stress + self.pressure * np.eye(3) if self.cell else np.zeros((3, 3))
        return (forces, stress) if self.symmetry is None else self.symmetry.average(crystal, forces, stress)
