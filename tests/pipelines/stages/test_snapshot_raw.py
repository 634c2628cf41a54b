"""Raw energies of the Materials Project on the scale of our VASP jobs; values added up by hand."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from gnome_core.crystals.entries import SourceError
from gnome_core.crystals.readers import read_snapshot
from pipelines.stages.snapshot_raw import SCALE, raw_energies_of, raw_entries
from pipelines.stages.snapshot_sources import read_source

FE_LI_O_P = Path(__file__).parents[4] / "shared" / "data" / "hull_reference_Fe-Li-O-P.parquet"
# eV: MP2020's corrections of an anion, or of a metal computed with U; shifts to the newer potentials.
OXIDE, FLUORIDE, FE_U = -0.687, -0.462, -2.256
LI, MG, GE = -0.00301278, 0.0924014, 0.10417085


def cube(a: float, *symbols: str) -> Structure:
    return Structure(Lattice.cubic(a), symbols, [[0, 0, 0], [0.5, 0.5, 0.5]][: len(symbols)])


def antifluorite(a: float, cation: str, anion: str) -> Structure:
    face = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(face, [cation, cation, anion], [[0.25] * 3, [0.75] * 3, [0] * 3])


def entry(id_: str, structure: Structure, energy: float, run_type: str = "GGA", **hubbards: float) -> dict:
    """energy: eV per cell, raw."""
    parameters = {"run_type": run_type, "hubbards": hubbards}
    return ComputedStructureEntry(structure, energy, parameters=parameters, entry_id=id_).as_dict()


ELEMENTS = [
    entry("mp-li", cube(3.4, "Li"), -1.9),
    entry("mp-mg", cube(3.6, "Mg"), -1.5),
    entry("mp-mg-higher", cube(3.5, "Mg"), -1.4),
    entry("mp-ge", cube(3.0, "Ge"), -4.5),
    entry("mp-fe", cube(2.8, "Fe"), -8.4),
    entry("mp-o", cube(3.0, "O"), -4.9),
    entry("mp-f", cube(3.0, "F"), -1.9),
]
COMPOUNDS = [
    entry("mp-li2o", antifluorite(4.62, "Li", "O"), -14.2),
    entry("mp-mgo", cube(2.6, "Mg", "O"), -11.9),
    entry("mp-lif", cube(2.5, "Li", "F"), -9.8),
    entry("mp-feo", cube(2.7, "Fe", "O"), -12.9, "GGA_U", Fe=5.3),
    entry("mp-mg2ge", antifluorite(6.4, "Mg", "Ge"), -8.6),
]
# id -> what is added to the cell's energy, atoms.
EXPECTED = {
    "mp-li": (LI, 1),
    "mp-mg": (MG, 1),
    "mp-ge": (GE, 1),
    "mp-fe": (0.0, 1),
    "mp-li2o": (2 * LI + OXIDE, 3),
    "mp-mgo": (MG + OXIDE, 2),
    "mp-lif": (LI + FLUORIDE, 2),
    "mp-feo": (OXIDE + FE_U, 2),
    "mp-mg2ge": (2 * MG + GE, 3),
}


def write(path: Path, documents: list) -> Path:
    path.write_text(json.dumps(documents))
    return path


def test_corrections_and_shifts_are_added_to_raw_energies(tmp_path):
    found = raw_entries(write(tmp_path / "mp.json", ELEMENTS + COMPOUNDS), None)
    assert (found.rejected, found.outside) == ([], 0)
    rows = {row["id"]: row for row in found.entries.to_pylist()}
    raw = {one["entry_id"]: one["energy"] for one in ELEMENTS + COMPOUNDS}
    for id_, (added, atoms) in EXPECTED.items():
        row = rows[id_]
        assert row["energy_per_atom"] == pytest.approx(raw[id_] / atoms, abs=1e-12)
        assert row["correction_per_atom"] == pytest.approx(added / atoms, abs=1e-9), id_
        assert row["scale"] == SCALE == "pbe+u/mp2020/vasp"
        assert row["correction_version"] == found.corrections
    assert found.corrections.startswith("mp2020/require_bound/pymatgen-core-")
    assert found.corrections.endswith("+gnome-potential-shifts/1")
    # MgO: -11.9 - 0.687 + 0.0924014 for the cell; Mg: -1.5 + 0.0924014; O: -4.9.
    assert rows["mp-mgo"]["e_form_per_atom"] == pytest.approx((-11.9 - 0.687 + 1.5 + 4.9) / 2, abs=1e-9)
    assert rows["mp-mg-higher"]["e_form_per_atom"] == pytest.approx(0.1)


def test_what_has_no_energy_on_the_scale_is_rejected_with_its_reason(tmp_path):
    other_u = entry("mp-u", cube(2.7, "Fe", "O"), -12.9, "GGA+U", Fe=4.0)
    r2scan = entry("mp-r2scan", cube(2.7, "Mg", "O"), -20.0, "R2SCAN")
    alone = entry("mp-alone", cube(2.9, "Ca", "O"), -12.9)
    no_energy = {**entry("mp-none", cube(2.7, "Mg", "O"), -12.9), "energy": None}
    no_type = {**entry("mp-type", cube(2.7, "Mg", "O"), -12.9), "parameters": {}}
    bad_u = {**entry("mp-bad", cube(2.7, "Fe", "O"), -12.9), "parameters": {"run_type": "GGA+U", "hubbards": "Fe"}}
    broken = [other_u, r2scan, alone, no_energy, no_type, bad_u, {"entry_id": "mp-empty"}]
    path = write(tmp_path / "mp.json", ELEMENTS + broken)
    found = raw_entries(path, None)
    assert {item.key: item.reason for item in found.rejected} == {
        "mp-u": "no_correction",
        "mp-r2scan": "no_correction",
        "mp-alone": "missing_reference",
        "mp-none": "missing_energy",
        "mp-type": "missing_run_type",
        "mp-bad": "malformed_row",
        "mp-empty": "missing_structure",
    }
    messages = {item.key: item.message for item in found.rejected}
    assert "Invalid U value of 4.0 on Fe, expected 5.3" in messages["mp-u"]
    assert all(str(path) in message for message in messages.values())
    assert len(found.entries) == len(ELEMENTS)
    assert len(raw_entries(path, ["Li"]).entries) == 1


def test_a_gga_u_entry_without_its_u_has_that_of_the_projects_settings(tmp_path):
    document = entry("mp-feo", cube(2.7, "Fe", "O"), -12.9, "GGA+U")
    document["parameters"]["hubbards"] = None
    rows = raw_entries(write(tmp_path / "mp.json", [*ELEMENTS, document]), None).entries.to_pylist()
    (row,) = [row for row in rows if row["id"] == "mp-feo"]
    assert row["correction_per_atom"] == pytest.approx((OXIDE + FE_U) / 2, abs=1e-9)


def test_on_another_scale_they_are_crystals_to_be_evaluated(tmp_path):
    name = f"mp-entries:{write(tmp_path / 'mp.json', ELEMENTS + COMPOUNDS)}"
    assert raw_energies_of(name, SCALE) == tmp_path / "mp.json"
    assert raw_energies_of(name, "r2scan/vasp") is None
    assert raw_energies_of(str(tmp_path / "mp.json"), SCALE) is None
    with_energies, without = read_source(name, None, SCALE), read_source(name, None, "r2scan/vasp")
    assert len(with_energies.entries) == len(with_energies.crystals) == len(without.crystals)
    assert without.entries is None
    assert (with_energies.corrections != "", without.corrections) == (True, "")
    assert {entry.id for entry in read_snapshot(name)} == {one["entry_id"] for one in ELEMENTS + COMPOUNDS}
    with pytest.raises(SourceError, match=r"there is no .*none\.json"):
        list(read_snapshot(f"mp-entries:{tmp_path}/none.json"))


@pytest.mark.skipif(not FE_LI_O_P.exists(), reason="../shared/data is not here")
def test_a_whole_system_has_the_published_formation_energies(tmp_path):
    """The shifts go with the elements, so they cancel in formation energies that are all of one kind. Three entries
    have other classes of oxygen in the published corrections."""
    rows = pq.read_table(FE_LI_O_P).to_pylist()
    documents = [
        entry(
            row["id"],
            Structure(np.reshape(row["lattice"], (3, 3)), row["numbers"], np.reshape(row["frac_coords"], (-1, 3))),
            row["energy_ev"],
            row["run_type"],
            **({"Fe": 5.3} if row["run_type"] == "GGA+U" else {}),
        )
        for row in rows
    ]
    found = raw_entries(write(tmp_path / "mp.json", documents), None)
    assert found.rejected == []
    expected = {row["id"]: row["e_form_per_atom_corrected"] for row in rows}
    made = {row["id"]: row["e_form_per_atom"] for row in found.entries.to_pylist()}
    differ = {id_ for id_ in expected if abs(made[id_] - expected[id_]) > 1e-6}
    assert differ == {"mp-761189", "mp-1181396", "mp-31272"}
