"""Formulas as people write them: read exactly, or refused."""

import pytest

from gnome_core.compositions.formula_parser import BadFormula, composition_of
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.compositions.packed import parse_formulas, unpack_compositions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CaSO4.2H2O", "H4O6S1Ca1"),
        ("MgSO4.7H2O", "H14O11Mg1S1"),
        ("Na2CO3.10H2O", "H20C1O13Na2"),
        ("CaSO4.0.5H2O", "H2O9S2Ca2"),
        ("CaCl2.6(H2O)", "H12O6Cl2Ca1"),
        ("NaCl.2H2O", "H4O2Na1Cl1"),
        ("CuSO4·5H2O", "H10O9S1Cu1"),
        ("CuSO4*5H2O", "H10O9S1Cu1"),
        ("CaSO4.H2O", "H2O5S1Ca1"),
        ("2CaO.SiO2", "O4Si1Ca2"),
        ("Li1.2H2O", "H10Li6O5"),  # nobody writes a subscript 1
        ("Fe0.5H2O", "H4O2Fe1"),
        ("La0.6Sr0.4Co0.2Fe0.8O2.95", "O59Fe16Co4Sr8La12"),
        ("Bi2.2Sr1.9CaCu2O8", "O80Ca10Cu20Sr19Bi22"),
        ("Li0.999Mg0.0005O", "Li1998O2000Mg1"),  # dopants are not rounded away
        ("Zr0.995Y0.005O2", "O400Y1Zr199"),
        ("Li0.333CoO2", "Li1O6Co3"),
        ("[Co(NH3)6]Cl3", "H18N6Cl3Co1"),
        ("K3{Fe(CN)6}", "C6N6K3Fe1"),
        ("Li Fe P O4", "Li1O4P1Fe1"),
        ("D2O", "H2O1"),
        ("HDO", "H2O1"),
        ("NaClNaCl", "Na1Cl1"),
    ],
)
def test_formulas_are_exact(text, expected):
    assert "".join(f"{SYMBOLS[z]}{n}" for z, n in composition_of(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nacl", "bad_formula"),
        ("Fe₂O₃", "bad_formula"),
        ("Li1-xCoO2", "bad_formula"),
        ("CaSO4 2H2O", "bad_formula"),  # was Ca S O42 H2 O
        ("CuCl2.2KCl", "bad_formula"),  # 2.2 Cl, or 2 KCl
        ("Fe.5O", "bad_formula"),
        ("Fe3+", "bad_formula"),
        ("Al2O3.", "bad_formula"),
        ("Li0O", "bad_formula"),
        ("(NaCl", "bad_formula"),
        ("NaCl)", "bad_formula"),
        ("", "bad_formula"),
        ("Li0.0000001O", "bad_formula"),  # ten million atoms
        ("A2D2O7", "unknown_element"),
        ("T2O7", "unknown_element"),
        ("Cm2O3", "unknown_element"),
    ],
)
def test_what_would_be_guessed_is_refused(text, reason):
    with pytest.raises(BadFormula) as error:
        composition_of(text)
    assert error.value.reason == reason
    assert repr(text) in str(error.value)


def test_given_compositions_are_read_by_the_same_parser():
    assert unpack_compositions(parse_formulas(["CaSO4.2H2O"]))[0, [1, 8, 16, 20]].tolist() == [4, 6, 1, 1]
    for text in ("Li0.5CoO2", "CaSO4 2H2O", "TO2"):
        with pytest.raises(ValueError, match=r"no formula|none of the elements"):
            parse_formulas([text])
