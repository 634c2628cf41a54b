"""Charges of known compounds, and of what chemists laugh at."""

import pytest

from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.stability.charges import likely_charges, without_nonmetals


def charges(formula: str) -> dict[str, float] | None:
    found = likely_charges(dict(composition_of(formula)))
    return None if found is None else {SYMBOLS[z]: charge for z, charge in found.items()}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("CoF2", {"Co": 2, "F": -1}),
        ("La2(SO4)3", {"La": 3, "S": 6, "O": -2}),
        ("FeTiO3", {"Fe": 2, "Ti": 4, "O": -2}),  # Fe3+ and Ti3+ would do, but Ti4+ is far more common
        ("FeS2", {"Fe": 2, "S": -1}),
        ("Y3Al5O12", {"Y": 3, "Al": 3, "O": -2}),
        ("EuO", {"Eu": 2, "O": -2}),  # europium has no electronegativity of Pauling's
        ("Fe3O4", {"Fe": 8 / 3, "O": -2}),  # mixed valence
        ("LaSO4", None),  # La2+ or S5+
        ("CuF4", None),  # Cu4+
        ("Zr2F7", None),  # zirconium does not mix Zr3+ and Zr4+
        ("Te2S3", None),
        ("OF2", None),  # oxygen as a cation
    ],
)
def test_the_likeliest_charges(formula, expected):
    found = charges(formula)
    assert found == (None if expected is None else pytest.approx(expected))


def test_of_metals_charges_say_nothing():
    answers = {
        f: without_nonmetals(z for z, _ in composition_of(f)) for f in ("Li2LaSi2", "NiTe2", "S8", "SiTe2", "CoF2")
    }
    assert answers == {"Li2LaSi2": True, "NiTe2": True, "S8": True, "SiTe2": False, "CoF2": False}
