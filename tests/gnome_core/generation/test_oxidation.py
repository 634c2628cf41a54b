import numpy as np
import pytest
from pymatgen.core import Composition

from gnome_core.generation.oxidation import can_be_neutral


def counts(formula: str) -> np.ndarray:
    row = np.zeros(95, int)
    for element, n in Composition(formula).items():
        row[element.Z] = int(n)
    return row


@pytest.mark.parametrize("formula", ["NaCl", "Fe3O4", "Li15Si4", "LiFePO4", "Na2O2", "Ni3Al", "La2F3"])
def test_balanced_mixed_valent_and_metallic_compositions_pass(formula):
    assert can_be_neutral(counts(formula)[None]).all()


@pytest.mark.parametrize("formula", ["MgF4", "ZrF7", "CaF3", "CaO3", "ScF6", "NaCl2"])
def test_compositions_beyond_every_common_charge_fail(formula):
    assert not can_be_neutral(counts(formula)[None]).any()


def test_rows_are_judged_one_by_one():
    assert can_be_neutral(np.array([counts("NaCl"), counts("NaCl2"), counts("Ni3Al")])).tolist() == [True, False, True]
