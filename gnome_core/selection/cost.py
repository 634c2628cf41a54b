"""What a density-functional calculation of a crystal costs, roughly: for ranking candidates and filling a budget."""

from __future__ import annotations

import numpy as np

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.compositions.formulas import NUMBERS

# Electrons in the PBE potentials that the Materials Project's relaxation set names; VASP's own for Po to Ra.
# fmt: off
VALENCE_ELECTRONS = {
    "H": 1, "He": 2, "Li": 3, "Be": 4, "B": 3, "C": 4, "N": 5, "O": 6, "F": 7, "Ne": 8, "Na": 7, "Mg": 8, "Al": 3,
    "Si": 4, "P": 5, "S": 6, "Cl": 7, "Ar": 8, "K": 9, "Ca": 10, "Sc": 11, "Ti": 10, "V": 11, "Cr": 12, "Mn": 13,
    "Fe": 14, "Co": 9, "Ni": 16, "Cu": 17, "Zn": 12, "Ga": 13, "Ge": 14, "As": 5, "Se": 6, "Br": 7, "Kr": 8, "Rb": 9,
    "Sr": 10, "Y": 11, "Zr": 12, "Nb": 11, "Mo": 12, "Tc": 13, "Ru": 14, "Rh": 15, "Pd": 10, "Ag": 11, "Cd": 12,
    "In": 13, "Sn": 14, "Sb": 5, "Te": 6, "I": 7, "Xe": 8, "Cs": 9, "Ba": 10, "La": 11, "Ce": 12, "Pr": 11, "Nd": 11,
    "Pm": 11, "Sm": 11, "Eu": 17, "Gd": 18, "Tb": 9, "Dy": 9, "Ho": 9, "Er": 9, "Tm": 9, "Yb": 8, "Lu": 9, "Hf": 10,
    "Ta": 11, "W": 12, "Re": 13, "Os": 14, "Ir": 9, "Pt": 10, "Au": 11, "Hg": 12, "Tl": 13, "Pb": 14, "Bi": 5, "Po": 6,
    "At": 7, "Rn": 8, "Fr": 9, "Ra": 10, "Ac": 11, "Th": 12, "Pa": 13, "U": 14, "Np": 15, "Pu": 16,
}
# fmt: on
ELECTRONS = np.zeros(N_COLUMNS)
ELECTRONS[[NUMBERS[symbol] for symbol in VALENCE_ELECTRONS]] = list(VALENCE_ELECTRONS.values())
UNIT = (2 * VALENCE_ELECTRONS["Si"]) ** 2


def dft_cost(atom_counts: np.ndarray) -> np.ndarray:
    """(n,) cost of relaxing cells that hold atom_counts (n, 95), in units of the two atoms of silicon.

    Orthogonalising the bands of one k-point takes bands^2 x plane waves; plane waves grow with the volume and the
    k-points of a fixed density shrink with it, so a step costs electrons^2. That the number of ionic steps grows with
    the cell is left out. Time a few relaxations of your own to turn units into core hours.
    """
    return np.square(np.asarray(atom_counts, np.float64) @ ELECTRONS) / UNIT
