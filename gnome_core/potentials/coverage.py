"""Crystals that no potential of atoms and their neighbours can judge: elements never shown, atoms out of sight."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.crystal import Crystal, check_finite
from gnome_core.graphs.neighbors import pair_lists
from gnome_core.potentials.potential import IsolatedAtom, UnknownElement


def by_number(energies: Mapping[int, float]) -> np.ndarray:
    """(256,) eV by atomic number, NaN where there is none."""
    table = np.full(256, np.nan)
    table[list(energies)] = list(energies.values())
    return table


def check_elements(crystal: Crystal, known: np.ndarray) -> None:
    """Raise UnknownElement, naming them, for elements that are not `known`: (256,) bool by atomic number."""
    unknown = np.unique(crystal.numbers[~known[crystal.numbers]])
    if len(unknown):
        names = ", ".join(SYMBOLS[z] for z in unknown)
        raise UnknownElement(f"the potential was not trained on {names}; use one that was, or leave the crystal out")


def check_neighbours(crystal: Crystal, cutoff: float) -> None:
    """Raise IsolatedAtom for an atom without a neighbour, another atom or an image of its own, within `cutoff` Å.

    Raises InvalidCrystal for a lattice or coordinates that are not finite.
    """
    check_finite(crystal)
    ((first, second, _),) = pair_lists([crystal], cutoff)
    alone = np.ones(crystal.n_sites, bool)
    alone[first] = alone[second] = False
    if alone.any():
        atom = int(alone.argmax())
        name = f"atom {atom + 1} of {crystal.n_sites}, {SYMBOLS[crystal.numbers[atom]]}"
        raise IsolatedAtom(
            f"{name}, has no neighbour within {cutoff:g} Å, "
            "where the potential sees nothing; check the cell, or leave the crystal out"
        )
