"""Distances between compositions that can be counted on fingers."""

from __future__ import annotations

import numpy as np
import pytest

from gnome_core.compositions.formulas import NUMBERS, atomic_fractions
from gnome_core.compositions.nearest import nearest_share


def fractions(*cells: str) -> np.ndarray:
    return atomic_fractions([[NUMBERS[symbol] for symbol in cell.split()] for cell in cells])


def test_it_is_the_share_of_atoms_to_exchange():
    known = fractions("Na Cl", "K K O", "Li")
    asked = fractions("Cl Na", "K Cl", "K Na O", "Fe", "Na Cl Cl Cl", "Li O")
    assert nearest_share(asked, known) == pytest.approx([0, 1 / 2, 1 / 3, 1, 1 / 4, 1 / 2])


def test_where_nothing_is_known_everything_is_new():
    assert nearest_share(fractions("Na Cl"), np.zeros((0, 95))).tolist() == [1.0]
