import numpy as np
import pytest
from pymatgen.core import Element

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.stability.hull import Hull
from gnome_core.stability.reactions import decomposition_reaction, equilibrium_reaction, reaction


def row(**amounts: float) -> np.ndarray:
    composition = np.zeros(N_COLUMNS)
    for symbol, amount in amounts.items():
        composition[Element(symbol).Z] = amount
    return composition


def test_equilibrium_of_a_hull_member_and_of_a_metastable_entry():
    entries = [row(Li=1), row(Fe=1), row(O=2), row(Li=2, O=1), row(Fe=2, O=3), row(Li=2, Fe=2, O=4), row(Li=1, O=1)]
    e_form = np.array([0.0, 0.0, 0.0, -2.0, -1.6, -1.9, -1.0])
    hull = Hull.from_entries(["Li", "Fe", "O2", "a", "b", "c", "d"], np.array(entries), e_form, "test")
    assert equilibrium_reaction(hull, 5) == "2 LiFeO2 -> Fe2O3 + Li2O"
    # Of one composition with LiO, pymatgen's Li2O2 has 4 atoms.
    assert equilibrium_reaction(hull, 6) == "2 Li2O2 -> 2 Li2O + O2"
    assert equilibrium_reaction(hull, 0) == ""
    assert decomposition_reaction(hull, 6) == "2 Li2O2 -> 2 Li2O + O2"
    assert decomposition_reaction(hull, 5) == "LiFeO2 -> LiFeO2"


@pytest.mark.parametrize(
    ("reactant", "products", "text"),
    [
        (row(Fe=3, O=4), [(row(Fe=1, O=1), 2 / 7), (row(Fe=2, O=3), 5 / 7)], "Fe3O4 -> FeO + Fe2O3"),
        (row(Na=1, Cl=1), [(row(Na=4, Cl=4), 1.0)], "NaCl -> NaCl"),
        (row(Ca=3, P=2, O=8), [(row(Ca=1, O=1), 6 / 13), (row(P=2, O=5), 7 / 13)], "Ca3(PO4)2 -> 3 CaO + P2O5"),
        # Shares without small whole numbers behind them stay decimals.
        (row(Li=1, Fe=1), [(row(Li=1), 0.12345), (row(Fe=1), 0.87655)], "LiFe -> 0.2469 Li + 1.753 Fe"),
    ],
)
def test_coefficients_count_formula_units(reactant, products, text):
    assert reaction(reactant, products) == text
