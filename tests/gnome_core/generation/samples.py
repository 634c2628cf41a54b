"""Textbook crystals for the tests of generation."""

from __future__ import annotations

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.parents import ParentTable


def from_structure(structure) -> Crystal:
    return Crystal(structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)


def batio3(repeat: int = 1) -> Crystal:
    from pymatgen.core import Lattice, Structure

    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    structure = Structure.from_spacegroup("Pm-3m", Lattice.cubic(4.0), ["Ba", "Ti", "O"], coords)
    structure.make_supercell(repeat)
    return from_structure(structure)


def spinel() -> Crystal:
    """MgAl2O4-like conventional cell of 56 atoms, with Al on the 8 tetrahedral sites."""
    from pymatgen.core import Lattice, Structure

    coords = [[0.125] * 3, [0.5] * 3, [0.2624] * 3]
    return from_structure(Structure.from_spacegroup("Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], coords))


def lifepo4() -> Crystal:
    from pymatgen.core import Lattice, Structure

    coords = [
        [0, 0, 0],
        [0.282, 0.25, 0.975],
        [0.095, 0.25, 0.418],
        [0.097, 0.25, 0.743],
        [0.457, 0.25, 0.206],
        [0.166, 0.046, 0.285],
    ]
    cell = Lattice.orthorhombic(10.33, 6.01, 4.69)
    return from_structure(Structure.from_spacegroup("Pnma", cell, ["Li", "Fe", "P", "O", "O", "O"], coords))


def rock_salt(cation: int, anion: int, a: float) -> Crystal:
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Crystal(np.eye(3) * a, np.concatenate([fcc, fcc + 0.5]) % 1.0, [cation] * 4 + [anion] * 4)


def parents() -> ParentTable:
    """Six parents: two halides, a perovskite, an olivine, a telluride and an intermetallic (B2 FeAl)."""
    b2 = Crystal(np.eye(3) * 2.9, [[0, 0, 0], [0.5, 0.5, 0.5]], [26, 13])
    crystals = [rock_salt(11, 17, 5.64), rock_salt(19, 9, 5.35), batio3(), lifepo4(), rock_salt(56, 52, 7.0), b2]
    return ParentTable.from_crystals(["nacl", "kf", "batio3", "lifepo4", "bate", "feal"], crystals)
