import numpy as np
import pytest

from gnome_core.compositions.formulas import reduced_formula
from gnome_core.crystals.cif import format_cif, parse_cif
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from tests.gnome_core.crystals.samples import assert_same_crystal, sample_crystals

NACL = """data_NaCl
_cell_length_a 5.640(1)
_cell_length_b 5.640(1)
_cell_length_c 5.640(1)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_chemical_formula_sum 'Na Cl'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 0 0 0
Cl1 0.5 0.5 0.5
"""
CSCL = format_cif(Crystal(np.eye(3) * 4.1, [[0, 0, 0], [0.5, 0.5, 0.5]], [55, 17]), "CsCl")


def test_written_crystals_come_back():
    for crystal in sample_crystals(16):
        assert_same_crystal(parse_cif(format_cif(crystal, "any name")), crystal)


def test_symmetry_is_expanded():
    crystal = parse_cif(NACL)
    assert crystal.n_sites == 8
    assert reduced_formula(crystal.numbers) == "NaCl"
    assert crystal.volume == pytest.approx(5.64**3)


def test_pymatgen_and_ase_read_what_we_write(tmp_path):
    import ase.io
    from pymatgen.core import Structure

    from gnome_core.crystals.convert import from_atoms, from_structure

    crystal = sample_crystals(8)[7]
    path = tmp_path / "x.cif"
    path.write_text(format_cif(crystal, "x"))
    assert_same_crystal(from_structure(Structure.from_file(path)), crystal)
    assert_same_crystal(from_atoms(ase.io.read(path)), crystal)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "unreadable_file"),
        ("\x00\xff PNG not a CIF", "unreadable_file"),
        ("data_only_a_title\n_journal_year 1999\n", "unreadable_file"),
        (CSCL[:-30], "unreadable_file"),  # within a site
        (CSCL[: CSCL.index("  Cl  Cl1")], "formula_mismatch"),  # between two sites
        (CSCL[: CSCL.index("  Cs  Cs0")], "no_sites"),  # before the first
        (CSCL[: CSCL.index("loop_\n _atom_site")], "no_sites"),
        (CSCL.replace("_cell_length_a   4.1", "_cell_length_a   0.0"), "bad_lattice"),
        (CSCL.replace("_cell_length_a   4.1", "_cell_length_a   x4.1"), "bad_lattice"),
        (CSCL.replace("_cell_angle_gamma   90.", "_cell_angle_gamma   0.01"), "bad_lattice"),
        (CSCL.replace("_cell_", "_other_"), "bad_lattice"),
        (CSCL.replace("0.5000000000  1", "nan  1"), "not_finite"),
        (CSCL.replace("0.5000000000  1", "?  1"), "not_finite"),
        (CSCL.replace("  Cl  Cl1", "  Qq  Qq1"), "unknown_element"),
        (NACL.replace("Cl1", "Jj1"), "unknown_element"),
        (CSCL.replace("0.5000000000  1\n", "0.5000000000  0.5\n"), "partial_occupancy"),
        (CSCL + "  Cl  Cl2  1  0.5  0.5  0.52  1\n", "overlapping_atoms"),
        (CSCL + "  Cl  Cl2  1  0.5  0.5  0.5  1\n", "overlapping_atoms"),
        (CSCL + "  F  F2  1  0.5  0.5  0.5  1\n", "overlapping_atoms"),
        (CSCL + CSCL.replace("data_CsCl", "data_other"), "multiple_structures"),
    ],
)
def test_broken_files_are_named(text, reason):
    with pytest.raises(InvalidCrystal) as error:
        check_crystal(parse_cif(text))
    assert error.value.reason == reason
