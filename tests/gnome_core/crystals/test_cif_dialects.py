"""CIF as programs and people write it: what is there must be read, and what is not understood must be refused."""

import time

import numpy as np
import pytest

from gnome_core.compositions.formulas import SYMBOLS, composition
from gnome_core.crystals.cif import parse_cif, parse_rounded_cif
from gnome_core.crystals.cif_blocks import decode_cif
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal, shortest_distance

SITES = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
ALL_LISTED = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"


def cell(*values: float) -> str:
    """The six parameters, or the edge of a cube."""
    a, b, c, alpha, beta, gamma = values if len(values) == 6 else (*values * 3, 90, 90, 90)
    return (
        f"_cell_length_a {a}\n_cell_length_b {b}\n_cell_length_c {c}\n"
        f"_cell_angle_alpha {alpha}\n_cell_angle_beta {beta}\n_cell_angle_gamma {gamma}\n"
    )


CSCL_BODY = cell(4.12) + ALL_LISTED + SITES + "Cs1 0 0 0\nCl1 0.5 0.5 0.5\n"
CSCL = "data_CsCl\n" + CSCL_BODY


def formula(crystal: Crystal) -> str:
    return "".join(f"{SYMBOLS[z]}{n}" for z, n in composition(crystal.numbers))


def symbol(name: str) -> str:
    return f"_symmetry_space_group_name_H-M '{name}'\n"


def reason(text: str) -> str:
    with pytest.raises(InvalidCrystal) as error:
        parse_cif(text)
    return error.value.reason


# ---------------------------------------------------------------- symmetry


@pytest.mark.parametrize("name", ["F d -3 m S", "F d -3 m :1", "Fd-3m:1", "F 41/d -3 2/m :1", "F_d_-3_m_S", "Fd-3m O1"])
def test_diamond_in_its_first_origin(name):
    crystal = parse_cif("data_C\n" + cell(3.567) + symbol(name) + SITES + "C1 0 0 0\n")
    assert formula(crystal) == "C8"
    assert shortest_distance(crystal, 3) == pytest.approx(1.5446, abs=1e-3)


@pytest.mark.parametrize("name", ["F d -3 m Z", "F d -3 m :2", "Fd-3mZ", "FD-3M:2", "F 41/d -3 2/m:2"])
def test_diamond_in_its_second_origin(name):
    crystal = parse_cif("data_C\n" + cell(3.567) + symbol(name) + SITES + "C1 0.125 0.125 0.125\n")
    assert formula(crystal) == "C8"
    assert shortest_distance(crystal, 3) == pytest.approx(1.5446, abs=1e-3)


@pytest.mark.parametrize(
    "stated",
    [
        "_space_group_name_Hall 'F 4d 2 3 -1d'\n",
        "_symmetry_space_group_name_Hall 'F 4d 2 3 -1d'\n_symmetry_space_group_name_H-M 'of my own'\n",
        "_space_group_IT_number 227\n_space_group_IT_coordinate_system_code 1\n",
        "_space_group.name_H-M_alt 'F d -3 m'\n_space_group.IT_coordinate_system_code 1\n",
    ],
)
def test_diamond_by_other_statements(stated):
    assert formula(parse_cif("data_C\n" + cell(3.567) + stated + SITES + "C1 0 0 0\n")) == "C8"


def test_an_open_origin_is_settled_by_the_atoms_or_refused():
    text = "data_C\n" + cell(3.567) + symbol("F d -3 m") + "{}" + SITES + "C1 0 0 0\n"
    assert reason(text.format("")) == "unknown_symmetry", "eight atoms or sixteen"
    assert formula(parse_cif(text.format("_chemical_formula_sum C\n_cell_formula_units_Z 8\n"))) == "C8"
    spinel = (
        "_chemical_formula_sum 'Al2 Mg O4'\n" + SITES + "Mg1 0 0 0\nAl1 0.625 0.625 0.625\nO1 0.3876 0.3876 0.3876\n"
    )
    crystal = parse_cif("data_s\n" + cell(8.08) + symbol("F d -3 m") + spinel)
    assert formula(crystal) == "O32Mg8Al16"
    assert shortest_distance(crystal, 3) == pytest.approx(1.92, abs=0.02)


@pytest.mark.parametrize(
    ("name", "parameters", "n_atoms"),
    [
        ("R -3 m H", (3.0, 3.0, 14.0, 90, 90, 120), 3),
        ("R -3 m", (3.0, 3.0, 14.0, 90, 90, 120), 3),
        ("R -3 2/m :R", (4.5, 4.5, 4.5, 50, 50, 50), 1),
        ("R -3 m", (4.5, 4.5, 4.5, 50, 50, 50), 1),
        ("P 6(3)/m m c", (3.2, 3.2, 5.2, 90, 90, 120), 2),
        ("P 63/m 2/m 2/c", (3.2, 3.2, 5.2, 90, 90, 120), 2),
        ("P2_1/c", (5.0, 5.1, 5.2, 90, 100, 90), 2),
        ("P 21/n 21/m 21/a", (5.0, 5.1, 5.2, 90, 90, 90), 4),
        ("Fm3m", (4.0,), 4),
        ("F m -3 m (No. 225)", (4.0,), 4),
    ],
)
def test_symbols_of_many_hands(name, parameters, n_atoms):
    crystal = parse_cif("data_x\n" + cell(*parameters) + symbol(name) + SITES + "Mg1 0 0 0\n")
    assert crystal.n_sites == n_atoms


@pytest.mark.parametrize(
    "stated",
    [
        symbol("F m 3 bar m"),
        symbol("?"),
        "_symmetry_cell_setting cubic\n",
        "_space_group_name_Hall 'no such name'\n",
        "_space_group_magn.number_BNS 225.116\n",
        symbol("F d -3 m") + "_symmetry_Int_Tables_number 225\n",
        symbol("P 63/m m c"),  # which no cube has
        "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, -y, z'\n'-x, y, -z'\n",  # x,-y,-z is missing
        "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, y'\n",
        "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, 2y, u'\n",
        symbol("F m -3 m") + ALL_LISTED,  # of which only one is listed
        "_chemical_formula_sum 'Li F'\n_cell_formula_units_Z 4\n",  # eight atoms, two listed
    ],
)
def test_symmetry_that_is_not_understood_is_refused(stated):
    text = "data_LiF\n" + cell(4.03) + stated + SITES + "Li1 0 0 0\nF1 0.5 0.5 0.5\n"
    assert reason(text) == "unknown_symmetry"


def test_all_atoms_below_a_symbol_of_higher_symmetry_are_those_atoms():
    corners = "Mg1 0 0 0\nMg2 0.5 0.5 0\nMg3 0.5 0 0.5\nMg4 0 0.5 0.5\n"
    assert parse_cif("data_x\n" + cell(4.2) + symbol("F m -3 m") + ALL_LISTED + SITES + corners).n_sites == 4
    no_symmetry = "data_x\n" + cell(4.2) + SITES + corners
    assert parse_cif(no_symmetry).n_sites == 4, "a file that speaks of no symmetry lists its atoms"


def test_operations_of_decimals_fifths_and_time_reversal():
    shifted = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'x+{k}/5, y, z'\n" for k in range(5))
    assert parse_cif("data_x\n" + cell(20.0) + shifted + SITES + "Mg1 0 0 0\n").n_sites == 5
    hexagonal = (3.2, 3.2, 5.2, 90, 90, 120)
    third = "loop_\n_space_group_symop_operation_xyz\nx,y,z\n-Y,X-Y,.33333+z\nY-X,-X,0.6667+z\n"
    assert parse_cif("data_x\n" + cell(*hexagonal) + third + SITES + "Mg1 0.3 0.1 0\n").n_sites == 3
    magnetic = (
        "_space_group_magn.name_BNS 'P 1'\nloop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n"
        "loop_\n_space_group_symop_magn_centering.xyz\nx,y,z,+1\nx+1/2,y+1/2,z+1/2,-1\n"
    )
    assert parse_cif("data_x\n" + cell(2.9) + magnetic + SITES + "Fe1 0 0 0\n").n_sites == 2


def test_special_positions_of_few_decimals_are_one_atom():
    hcp = "data_x\n" + cell(3.2, 3.2, 5.2, 90, 90, 120) + symbol("P 63/m m c") + SITES + "Mg1 0.333 0.667 0.25\n"
    crystal = parse_cif(hcp)
    assert crystal.n_sites == 2
    np.testing.assert_allclose(np.sort(crystal.frac_coords[:, 0]), [1 / 3, 2 / 3], atol=1e-9)


# ---------------------------------------------------------------- grammar


@pytest.mark.parametrize(
    "line", ["data_collection at 300 K", "data_symmetries", "loop_ of heating", "_cell_length_a 99"]
)
def test_a_text_field_is_text(line):
    text = f"data_x\n_publ_section_comment\n;\n{line}\n;\n{CSCL_BODY}"
    assert formula(parse_cif(text)) == "Cl1Cs1"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + CSCL.encode(),
        CSCL.encode("utf-16"),
        CSCL.encode("utf-16-be"),
        CSCL.encode("utf-16-le"),
        ("# caf\xe9 \xc5\n" + CSCL).encode("latin-1"),
        CSCL.replace("\n", "\r\n").encode(),
        CSCL.replace("\n", "\r").encode(),
        CSCL.encode() + b"\x1a",
    ],
)
def test_bytes_of_several_systems(content):
    assert formula(parse_cif(decode_cif(content))) == "Cl1Cs1"


@pytest.mark.parametrize(
    "text",
    [
        CSCL.replace("data_", "DATA_").replace("loop_", "LOOP_"),
        CSCL.replace("_cell_length_a", "_Cell_Length_A").replace("_atom_site_label", "_ATOM_SITE_LABEL"),
        CSCL.replace("_atom_site_", "_atom_site.").replace("_cell_", "_cell.")
        .replace("_symmetry_equiv_pos_as_xyz", "_space_group_symop.operation_xyz"),
        CSCL.replace("4.12", "4.120(3)").replace("0.5 0.5 0.5", "0.5(1) .5 5.0E-1"),
        CSCL + "_exptl_crystal_colour\n",  # a name without its value
        CSCL.replace("_cell_angle_beta 90\n", "").replace("_cell_angle_gamma 90", "_cell_angle_gamma ."),
    ],
)  # fmt: skip
def test_spellings_of_one_structure(text):
    assert formula(parse_cif(text)) == "Cl1Cs1"


def test_other_blocks_are_passed_over_and_two_structures_refused():
    powder = "data_powder\nloop_\n_pd_meas_counts_total\n1\n2\n"
    template = "data_t\n_cell_length_a ?\nloop_\n_atom_site_label\n_atom_site_fract_x\n? ?\n"
    for text in ("data_global\n_journal_year 2020\n" + CSCL, CSCL + powder, CSCL + template, template + CSCL):
        assert formula(parse_cif(text)) == "Cl1Cs1"
    assert reason(CSCL + CSCL.replace("data_CsCl", "data_b")) == "multiple_structures"
    assert reason(CSCL + CSCL) == "multiple_structures", "of one name, too"


def test_a_name_with_two_values_is_refused():
    assert reason(CSCL.replace("data_CsCl\n", "data_CsCl\n_cell_length_a 5.0\n")) == "unreadable_file"
    assert reason(CSCL.replace("data_CsCl\n", "data_CsCl\n_CELL_LENGTH_A 5.0\n")) == "unreadable_file"


@pytest.mark.parametrize("angle", ["?", "0", "190", "ninety", "1_0"])
def test_angles_that_are_none_are_refused(angle):
    assert reason(CSCL.replace("_cell_angle_beta 90", f"_cell_angle_beta {angle}")) == "bad_lattice"


# ---------------------------------------------------------------- sites


def labelled(*labels: str, formula_sum: str | None = None, types: list[str] | None = None) -> str:
    places = ["0 0 0", "0.5 0.5 0.5", "0.2 0 0.24", "0.5 0 0"]
    sites = SITES.replace("loop_\n", "loop_\n_atom_site_type_symbol\n") if types else SITES
    words = [f"{kind} {label}" for kind, label in zip(types, labels, strict=True)] if types else labels
    rows = "".join(f"{word} {place}\n" for word, place in zip(words, places, strict=False))
    stated = f"_chemical_formula_sum '{formula_sum}'\n" if formula_sum else ""
    return "data_x\n" + cell(6.0) + stated + ALL_LISTED + sites + rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (labelled("Na1", "OH1", "H1"), "H1O1Na1"),
        (labelled("Na1", "HO1", "Ow"), "H1O1Na1"),  # mixed case: no holmium
        (labelled("NA1", "HO1", "O1", formula_sum="H Na O"), "H1O1Na1"),
        (labelled("HO1", "CL1", formula_sum="Cl Ho"), "Cl1Ho1"),
        (labelled("FE1A", "SI2", "O1"), "O1Si1Fe1"),
        (labelled("Ca1", "O1", "H1A", formula_sum="C H O"), "H1C1O1"),  # the alpha carbon
        (labelled("OH1", "Na1", "H1", types=["O", "Na1+", "D"]), "H1O1Na1"),
        (labelled("A", "B", types=["FE3+", "o2-"]), "O1Fe1"),
        (labelled("Li1", "D1"), "H1Li1"),
        (labelled("Li1", "D1", types=["Li1+", "D1-"]), "H1Li1"),
        (labelled("Li1", "D1", formula_sum="D Li"), "H1Li1"),
        (labelled("Li1", "D1", formula_sum="H Li"), "H1Li1"),
    ],
)
def test_elements_of_labels(text, expected):
    assert formula(parse_cif(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (labelled("CA1", "OH2"), "missing_hydrogens"),
        (labelled("Ca1", "OW"), "missing_hydrogens"),
        (labelled("CA1", "HO1"), "unknown_element"),  # holmium, or hydrogen on oxygen
        (labelled("Ca1", "Wat1"), "unknown_element"),  # no tungsten
        (labelled("Ca1", "Vac1"), "unknown_element"),  # no vanadium
        (labelled("Ca1", "Cent1"), "unknown_element"),  # no cerium
        (labelled("M1", "O1"), "unknown_element"),
        (labelled("T1", "O1"), "unknown_element"),  # a tetrahedral site, no tritium
        (labelled("C1", "Ca1", types=["CO3", "Ca"]), "unknown_element"),  # cobalt, or a carbonate
        (labelled("O1", "Ca1", types=["OH", "Ca"]), "unknown_element"),
    ],
)  # fmt: skip
def test_labels_that_would_be_guessed_are_refused(text, expected):
    assert reason(text) == expected


def test_hydrogens_without_coordinates_dummies_and_strange_occupancies():
    attached = CSCL.replace("_z\n", "_z\n_atom_site_attached_hydrogens\n").replace("0 0 0\n", "0 0 0 2\n")
    assert reason(attached.replace("0.5\n", "0.5 0\n")) == "missing_hydrogens"
    flags = CSCL.replace("_z\n", "_z\n_atom_site_calc_flag\n").replace("0 0 0\n", "0 0 0 d\n")
    assert formula(parse_cif(flags.replace("0.5\n", "0.5 d\n") + "Cg1 0.2 0.2 0.2 dum\n")) == "Cl1Cs1"
    occupied = CSCL.replace("_z\n", "_z\n_atom_site_occupancy\n").replace("0 0 0\n", "0 0 0 ?\n")
    assert formula(parse_cif(occupied.replace("0.5\n", "0.5 .\n"))) == "Cl1Cs1"
    assert reason(occupied.replace("0.5\n", "0.5 half\n")) == "partial_occupancy"


def test_a_dopant_of_the_formula_that_no_site_holds_is_missed():
    text = CSCL.replace("data_CsCl\n", "data_CsCl\n_chemical_formula_sum 'Cs0.995 Tl0.005 Cl'\n")
    assert reason(text) == "formula_mismatch"


def test_disorder_is_rounded_only_where_it_is_asked_for():
    sites = SITES.replace("_z\n", "_z\n_atom_site_occupancy\n") + "Mg1 0 0 0 0.6\nCa1 0 0 0 0.4\nO1 0.5 0.5 0.5 1\n"
    text = "data_x\n" + cell(4.2) + symbol("F m -3 m") + sites
    assert reason(text) == "partial_occupancy"
    crystal, ordered = parse_rounded_cif(text)
    assert (formula(crystal), ordered) == ("O4Mg4", False)
    assert parse_rounded_cif(CSCL)[1] is True
    assert formula(parse_rounded_cif(text.replace("0.6\n", "0.4\n").replace("0.4\nO1", "0.2\nO1"))[0]) == "O4"


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CSCL.replace("4.12", "1e308"), "bad_lattice"),
        (CSCL.replace("4.12", "9" * 400), "bad_lattice"),
        (CSCL.replace("Cs1 0 0 0", "Cs1 1e300 0 0"), "bad_coordinates"),
        (CSCL.replace("Cs1 0 0 0", "Cs1 1e999 0 0"), "not_finite"),
        (CSCL.replace("'x, y, z'\n", "'x, y, z'\n" * 50_000), "too_many_operations"),
        (CSCL + "".join(f"Cs{i} 0 0 {i / 20_000}\n" for i in range(20_000)), "too_many_sites"),
        (CSCL.replace("'x, y, z'\n", "".join(f"'x+{i}/1000,y,z'\n" for i in range(1000))), "overlapping_atoms"),
        (CSCL.replace("'x, y, z'", "'x+1/" + "9" * 50 + ", y, z'"), "unknown_symmetry"),
        (CSCL.replace("'x, y, z'", "'" + "x+" * 50_000 + "'"), "unknown_symmetry"),
    ],
)  # fmt: skip
def test_absurd_files_are_named_at_once(text, expected):
    start = time.monotonic()
    assert reason(text) == expected
    assert time.monotonic() - start < 20, "seconds on a busy machine; they were minutes, or a crash"


def test_absurd_crystals_of_any_source_are_named():
    for lattice, coordinate, expected in ((1e308, 0.0, "bad_lattice"), (4.1, 1e300, "bad_coordinates")):
        with pytest.raises(InvalidCrystal) as error:
            check_crystal(Crystal(np.eye(3) * lattice, [[coordinate, 0, 0], [0.5, 0.5, 0.5]], [55, 17]))
        assert error.value.reason == expected
