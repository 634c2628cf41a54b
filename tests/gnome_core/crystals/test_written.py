"""Files for other programs hold the crystals and energies that were written."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Structure

import gnome_core
from gnome_core.crystals import writers
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.readers import embedded_entries
from gnome_core.crystals.sources.optimade import _read_structure
from gnome_core.library.kinds import take


@pytest.fixture(scope="module")
def entries():
    return embedded_entries().slice(40, 6)


def assert_same(found, entries):
    for one, other in zip(take(found).crystals, crystals_from_batch(entries), strict=True):
        np.testing.assert_allclose(one.lattice, other.lattice, atol=1e-6)
        assert sorted(one.numbers.tolist()) == sorted(other.numbers.tolist())
    assert gnome_core.cluster([*take(found).crystals, *crystals_from_batch(entries)]).max() < len(entries)


def test_poscars(entries, tmp_path):
    paths = writers.write_poscar(entries, tmp_path / "out")
    assert [path.suffix for path in paths] == [".vasp"] * len(entries)
    assert_same([Structure.from_file(path) for path in paths], entries)
    assert paths[0].read_text().splitlines()[0] == entries["id"][0].as_py()


def test_extxyz(entries, tmp_path):
    writers.write_extxyz(entries, tmp_path / "out.extxyz")
    frames = ase.io.read(tmp_path / "out.extxyz", ":")
    assert_same(frames, entries)
    assert [frame.info["id"] for frame in frames] == entries["id"].to_pylist()
    assert [frame.info["e_form_per_atom"] for frame in frames] == pytest.approx(entries["e_form_per_atom"].to_pylist())


def test_pymatgen_entries(entries, tmp_path):
    from monty.serialization import loadfn

    writers.write_pymatgen(entries, tmp_path / "entries.json")
    found = loadfn(tmp_path / "entries.json")
    assert_same(found, entries)
    corrected = np.add(entries["energy_per_atom"].to_numpy(), entries["correction_per_atom"].to_numpy())
    assert [entry.energy_per_atom for entry in found] == pytest.approx(corrected.tolist())
    assert [entry.entry_id for entry in found] == entries["id"].to_pylist()
    assert found[0].data["scale"] == entries["scale"][0].as_py()


def test_optimade(entries, tmp_path):
    writers.write_optimade(entries, tmp_path / "optimade.json")
    document = json.loads((tmp_path / "optimade.json").read_text())
    found = [_read_structure(structure, "exported") for structure in document["data"]]
    assert [entry.id for entry in found] == entries["id"].to_pylist()
    assert_same([entry.crystal for entry in found], entries)
    assert document["meta"]["data_returned"] == len(entries)
    for structure, formula in zip(document["data"], entries["formula"].to_pylist(), strict=True):
        attributes = structure["attributes"]
        assert attributes["elements"] == sorted(attributes["elements"])
        assert sum(attributes["elements_ratios"]) == pytest.approx(1)
        assert attributes["_gnome_formula"] == formula
        assert attributes["nsites"] == len(attributes["species_at_sites"])


def test_optimade_formulas():
    fluorite = writers._optimade(gnome_core.to_crystals(bulk("CaF2", "fluorite", a=5.46)))
    assert fluorite["chemical_formula_reduced"] == "CaF2"
    assert fluorite["chemical_formula_anonymous"] == "A2B"
