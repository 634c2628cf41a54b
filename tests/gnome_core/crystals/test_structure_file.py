"""One structure of any format, as `gnome potential md` takes it."""

import pytest
from ase.build import bulk
from ase.io import write

from gnome_core.crystals.entries import SourceError
from gnome_core.crystals.sources.formats import read_structure
from tests.gnome_core.crystals.test_cif_dialects import CSCL, SITES, cell, formula, symbol

DISORDERED = SITES.replace("_z\n", "_z\n_atom_site_occupancy\n")
PEROVSKITE = (
    "data_x\n" + cell(5.38, 5.44, 7.64, 90, 90, 90) + symbol("P b n m") + SITES
    + "Ca1 0.99 0.03 0.25\nTi1 0 0.5 0\nO1 0.07 0.48 0.25\nO2 0.71 0.29 0.04\n"
)  # fmt: skip
MAGNETIC = (
    "#\\#CIF_2.0\ndata_x\n" + cell(4.2) + "_space_group_magn.name_BNS 'P 1'\n"
    "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\nloop_\n_space_group_symop_magn_centering.xyz\nx,y,z,+1\n"
    "x,y+1/2,z+1/2,+1\nx+1/2,y,z+1/2,-1\nx+1/2,y+1/2,z,-1\n" + SITES + "Mn1 0 0 0\nO1 0.5 0.5 0.5\n"
)


@pytest.mark.parametrize("name", ["x.cif", "x.CIF", "x.mcif", "x.txt", "POSCAR"])
def test_cif_is_read_as_everywhere_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    for text, expected in ((PEROVSKITE, "O12Ca4Ti4"), (CSCL, "Cl1Cs1"), (MAGNETIC, "O4Mn4")):
        path.write_text(text)
        assert formula(read_structure(path)) == expected
    path.write_bytes(CSCL.encode("utf-16"))
    assert formula(read_structure(path)) == "Cl1Cs1"


@pytest.mark.parametrize("sites", ["Mg1 0 0 0 0.6\nCa1 0 0 0 0.4\n", "Mg1 0 0 0 0.6\n"])
@pytest.mark.parametrize("name", ["x.cif", "x.dat"])
def test_disorder_is_refused(tmp_path, name, sites):
    (tmp_path / name).write_text(
        "data_x\n" + cell(4.2) + symbol("F m -3 m") + DISORDERED + sites + "O1 0.5 0.5 0.5 1\n"
    )
    with pytest.raises(SourceError, match=rf"{name}: site 1 \(Mg1\) has occupancy 0.6"):
        read_structure(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_other_formats_are_ases_with_and_without_a_byte_order_mark(encoding, tmp_path):
    names = (
        ("POSCAR", "vasp"),
        ("x.extxyz", "extxyz"),
        ("x.json", "json"),
        ("Na@300K.xyz", "extxyz"),
        ("x.xsf", "xsf"),
    )
    for name, format_ in names:
        path = tmp_path / name
        write(tmp_path / "x", bulk("NaCl", "rocksalt", a=5.64), format=format_)
        mark = "\ufeff" if encoding.startswith("utf-16") else ""
        path.write_bytes((mark + (tmp_path / "x").read_text()).encode(encoding))
        assert formula(read_structure(path)) == "Na1Cl1"
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["x", name])
        path.unlink()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.cif", ""),
        ("x.dat", "junk\n"),
        ("POSCAR", "a title\n1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"),
        ("x.extxyz", "\ufeff1\nno cell\nSi 0 0 0\n"),
        ("x.extxyz", "\ufeff1\nLattice='4 0 0'\nSi 0 0 0\n"),
        ("x.extxyz", ""),
        ("x.xyz", "2\nno cell\nH 0 0 0\nH 0 0 0.74\n"),
        ("x.vasp", ""),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError) as error:
        read_structure(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="no such file"):
        read_structure(tmp_path / "absent.cif")
