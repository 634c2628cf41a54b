"""Element symbols, chemical systems and reduced formulas of atomic numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

# fmt: off
SYMBOLS: tuple[str, ...] = (
    "X",  # the index is the atomic number
    "H", "He",
    "Li", "Be", "B", "C", "N", "O", "F", "Ne",
    "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar",
    "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe",
    "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu",
    "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn",
    "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr",
    "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
)
# fmt: on
NUMBERS: dict[str, int] = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}

Composition = tuple[tuple[int, int], ...]  # ((atomic number, count), ...), atomic numbers ascending


def composition(numbers: Sequence[int] | np.ndarray) -> Composition:
    """Atoms of each element in the cell: ((Z, count), ...), Z ascending."""
    cell = np.asarray(numbers, np.uint8).tobytes()
    return tuple((z, cell.count(z)) for z in sorted(set(cell)))


def composition_key(numbers: Sequence[int] | np.ndarray) -> Composition:
    """The composition divided by its greatest common divisor: equal for all cells of one stoichiometry."""
    return _divided(composition(numbers))


def atomic_fractions(cells: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    """(n, 95) float64 atomic fractions, column = atomic number, of n cells given by their atomic numbers (1..94)."""
    fractions = np.zeros((len(cells), 95))
    for row, numbers in zip(fractions, cells, strict=True):
        row += np.bincount(numbers, minlength=95) / len(numbers)
    return fractions


def chemsys(numbers: Sequence[int] | np.ndarray) -> str:
    """The elements in alphabetical order, as in "Li-O"."""
    return "-".join(sorted(SYMBOLS[z] for z in set(np.asarray(numbers, np.uint8).tobytes())))


def within(systems: Sequence[str], elements: Collection[str]) -> np.ndarray:
    """(n,) bool: whether chemical systems ("Li-O") hold no element but these symbols."""
    allowed = set(elements)
    return np.array([allowed.issuperset(system.split("-")) for system in systems], bool)


def reduced_formula(numbers: Sequence[int] | np.ndarray) -> str:
    """pymatgen's `Composition.reduced_formula` of the cell: "Li2O", "LiFePO4", but "O2" and "Na2O2"."""
    return formula_of_composition(composition(numbers))


def formula_of_composition(counts: Composition) -> str:
    """`reduced_formula` of ((Z, count), ...) in any order."""
    return _formula(_divided(tuple(sorted(counts))))


def _divided(counts: Composition) -> Composition:
    divisor = math.gcd(*(count for _, count in counts))
    return counts if divisor == 1 else tuple((z, count // divisor) for z, count in counts)


@lru_cache(maxsize=1 << 18)
def _formula(key: Composition) -> str:
    # pymatgen.core takes seconds to import, and most callers need no formula.
    from pymatgen.core.composition import Composition as PymatgenComposition
    from pymatgen.core.composition import reduce_formula

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity; they come last
        formula, _ = reduce_formula({SYMBOLS[z]: count for z, count in key})
    return PymatgenComposition.special_formulas.get(formula, formula)


MAX_ATOMIC_NUMBER = 94  # plutonium: the last element GNoME's and CHGNet's tables hold
