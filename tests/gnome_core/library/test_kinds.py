"""Any kind in, the same kind out; one error for what is none."""

import numpy as np
import pyarrow as pa
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Lattice, Structure

import gnome_core
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.crystals.entries import SourceError
from gnome_core.library.kinds import NotACrystal, take

SALT = bulk("NaCl", "rocksalt", a=5.64)


def same(one: Crystal, other: Crystal) -> bool:
    """Whether they differ at most in how the cell is turned and which image of an atom is named."""
    apart = one.frac_coords - other.frac_coords
    return (
        np.allclose(one.lattice @ one.lattice.T, other.lattice @ other.lattice.T, atol=1e-4)
        and (one.numbers == other.numbers).all()
        and np.allclose(apart, np.round(apart), atol=1e-6)
    )


def test_kinds_become_one_another():
    structure = gnome_core.to_structures(SALT)
    assert isinstance(structure, Structure)
    crystal = gnome_core.to_crystals(structure)
    atoms = gnome_core.to_atoms([crystal])
    assert [type(one) for one in atoms] == [Atoms]
    assert same(gnome_core.to_crystals(atoms)[0], crystal)


@pytest.mark.parametrize("name", ["salt.cif", "POSCAR", "salt.vasp"])
def test_a_file_of_one_structure_is_one_crystal(tmp_path, name):
    path = tmp_path / name
    structure = gnome_core.to_structures(SALT)
    structure.to(str(path), fmt="cif" if name.endswith("cif") else "poscar")
    assert same(gnome_core.to_crystals(path), gnome_core.to_crystals(structure))
    assert isinstance(gnome_core.to_structures(str(path)), Structure)
    assert len(gnome_core.to_structures([str(path), SALT])) == 2


def test_a_file_of_many_structures_is_a_list(tmp_path):
    import ase.io

    ase.io.write(tmp_path / "two.extxyz", [SALT, SALT])
    assert take(tmp_path / "two.extxyz").ids == ["two-0", "two-1"]
    assert len(gnome_core.to_structures(tmp_path / "two.extxyz")) == 2


def test_tables_are_lists_with_their_ids():
    crystal = gnome_core.to_crystals(SALT)
    table = pa.Table.from_batches([record_batch(pa.schema(CRYSTAL_FIELDS), ["a", "b"], [crystal, crystal])])
    for given in (table, table.to_pandas()):
        taken = take(given)
        assert (taken.one, taken.ids, taken.kinds) == (False, ["a", "b"], ["structure"] * 2)
        assert same(taken.crystals[1], crystal)
    with pytest.raises(NotACrystal, match="lacks lattice"):
        take(table.drop_columns(["lattice"]))


def test_rows_of_a_file_that_hold_no_crystal_are_named(tmp_path):
    structure = gnome_core.to_structures(SALT)
    structure.to(str(tmp_path / "good.cif"), fmt="cif")
    (tmp_path / "bad.cif").write_text("data_x\n_cell_length_a 1\n")
    with pytest.warns(UserWarning, match=r"1 rows left out, such as\n.*bad\.cif"):
        taken = take(tmp_path)
    assert (taken.one, taken.ids) == (False, ["good"])


def test_what_is_no_crystal_is_one_clear_error(tmp_path):
    molecule = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    with pytest.raises(InvalidCrystal, match="crystal 1: periodic in"):
        take([SALT, molecule])
    disordered = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    with pytest.raises(InvalidCrystal, match=r"crystal 0: .*disordered"):
        take(disordered)
    for wrong in (3.0, {"Li": 1}, None, [SALT, 7]):
        with pytest.raises(NotACrystal, match="give a pymatgen Structure, ASE Atoms"):
            take(wrong)
    with pytest.raises(SourceError, match="there is no"):
        take(str(tmp_path / "nothing.cif"))
