"""Crystals as pymatgen's StructureMatcher compares them: Niggli reduced, primitive, of unit volume. Made once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gnome_core.crystals.crystal import Crystal


@dataclass(frozen=True, eq=False)
class Reduced:
    """A reduced crystal of n sites; sites are sorted by atomic number.

    anchor: the site that is laid onto sites of another crystal: the first, as the reduction ordered them, of the
        rarest element.
    """

    lattice: np.ndarray  # (3, 3)
    frac_coords: np.ndarray  # (n, 3)
    numbers: np.ndarray  # (n,)
    anchor: int

    @cached_property
    def content(self) -> tuple[int, ...]:
        """The atoms in the cell: without supercells, cells of other atoms never match."""
        return tuple(self.numbers.tolist())

    @cached_property
    def lengths(self) -> np.ndarray:
        """(3,) of the lattice vectors."""
        return np.linalg.norm(self.lattice, axis=1)

    @cached_property
    def angles(self) -> np.ndarray:
        """(3,) alpha, beta, gamma, degrees."""
        unit = self.lattice / self.lengths[:, None]
        cosines = [unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]]
        return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def reduce_crystal(crystal: Crystal) -> Reduced:
    """The cell that StructureMatcher.fit makes of each of its arguments."""
    from pymatgen.core import Lattice, Structure

    given = Lattice(crystal.lattice)
    niggli = given.get_niggli_reduced_lattice()
    frac_coords, numbers = crystal.frac_coords, crystal.numbers
    if niggli != given:
        frac_coords = np.linalg.solve(niggli.matrix.T, (frac_coords @ given.matrix).T).T
        frac_coords = frac_coords - np.floor(frac_coords)
    lattice = niggli.matrix
    # Cells that hold one formula unit are primitive.
    if np.gcd.reduce(np.unique(numbers, return_counts=True)[1]) > 1:
        structure = Structure(niggli, numbers.tolist(), frac_coords).get_primitive_structure()
        lattice, frac_coords = structure.lattice.matrix, structure.frac_coords
        numbers = np.array(structure.atomic_numbers)
    return _reduced(lattice, frac_coords, np.asarray(numbers))


def reduce_crystals(crystals: Sequence[Crystal]) -> list[Reduced]:
    """`reduce_crystal` of each."""
    return [reduce_crystal(crystal) for crystal in crystals]


def _reduced(lattice: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray) -> Reduced:
    counts = np.bincount(numbers)[numbers]
    order = np.argsort(numbers, kind="stable")
    unit = lattice / abs(np.linalg.det(lattice)) ** (1 / 3)
    anchor = int(np.flatnonzero(order == counts.argmin())[0])
    return Reduced(unit, np.asarray(frac_coords)[order], numbers[order], anchor)
