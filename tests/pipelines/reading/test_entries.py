"""What `gnome export` and `gnome show` say of a store."""

import csv

import numpy as np
import pyarrow as pa
import pytest

from dft.tables import RESULT_SCHEMA
from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.formulas import reduced_formula
from gnome_core.compositions.known import composition_hashes, shipped_compositions
from gnome_core.stability.published import as_published, published_hull
from pipelines.cli.export_files import export_entries
from pipelines.errors import UserError
from pipelines.reading import explained as explaining
from pipelines.reading.committed import committed, references
from pipelines.reading.entries import ground_states, measured_entries
from pipelines.reading.explained import explained
from pipelines.store.store import Store
from tests.pipelines.conftest import gnome


def test_an_export_holds_raw_and_corrected_energies_and_reactions(two_rounds, tmp_path):
    store = Store(str(two_rounds))
    n = export_entries(store, tmp_path / "all.csv", stable_only=False, format="csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert n == len(rows) == len(measured_entries(store))
    for row in rows:
        raw, correction = float(row["energy_per_atom"]), float(row["correction_per_atom"])
        assert float(row["corrected_energy_per_atom"]) == pytest.approx(raw + correction)
        assert row["correction_version"] == ""  # the embedded evaluator's energies need none
        left, arrow, right = row["reaction"].partition(" -> ")
        if "-" not in row["chemsys"]:  # only an element above its lowest form has a reaction
            continue
        assert arrow
        assert left.split()[-1] == row["formula"]
        if row["on_hull"] == "true":
            assert row["formula"] not in right.replace("+", " ").split()
            assert float(row["phase_separation_energy"]) <= 5e-5
        else:
            assert float(row["e_above_hull"]) >= 0


def test_entries_say_how_new_they_are_and_how_far_above_the_published_hull(two_rounds, tmp_path):
    store = Store(str(two_rounds))
    export_entries(store, tmp_path / "all.csv", stable_only=False, format="csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = shipped_compositions()
    published = as_published(references(store.root)).energies
    made = [row for row in rows if row["round"] != "0"]
    assert {row["novelty"] for row in made} == {"new", "known composition"}  # its rounds leave out the snapshot alone
    for row in rows:
        if row["round"] == "0":
            assert (row["novelty"], row["novelty_source"]) == ("known structure", row["source"])
            assert row["e_above_mp_hull"] == ""
            continue
        counts = np.zeros((1, 95))
        for z, n in composition_of(row["formula"]):
            counts[0, z] = n
        names = known.names(int(known.find(composition_hashes(counts))[0]))
        assert row["novelty_source"] == ", ".join(names)
        assert row["novelty"] == ("known composition" if names else "new")
        shares = counts[0] / counts.sum()
        e_form = float(row["energy_per_atom"]) - sum(shares[z] * published[z] for z in np.flatnonzero(shares))
        above = e_form - published_hull().e_hull(counts)[0]
        assert float(row["e_above_mp_hull"]) == pytest.approx(above, abs=1e-9)
        assert float(row["e_above_mp_hull_uncertainty"]) == 0.046
    shown = gnome("show", store.root, made[0]["id"]).stdout
    assert f"novelty            {made[0]['novelty']}" in shown
    assert f"above MP's hull    {float(made[0]['e_above_mp_hull']):+.4f} ± 0.046 eV/atom" in shown


def test_phase_separation_is_the_depth_below_all_other_compositions(two_rounds):
    entries = measured_entries(Store(str(two_rounds)))
    depth = entries["phase_separation_energy"].to_numpy()
    others = entries["e_above_hull_others"].to_numpy()
    compound = ~np.isnan(depth)
    assert compound.sum() > 5
    # A second polymorph can only bring the rivals closer.
    assert (depth[compound] <= others[compound] + 1e-9).all()


def test_show_names_what_an_entry_competes_with(two_rounds):
    entries = measured_entries(Store(str(two_rounds))).to_pylist()
    compound = next(row for row in entries if row["on_hull"] and "-" in row["chemsys"])
    shown = gnome("show", str(two_rounds), compound["id"])
    assert shown.returncode == 0, shown.stderr
    assert "competes with" in shown.stdout
    above = next((row for row in entries if row["e_above_hull"] > 0.01), None)
    if above is not None:
        assert "decomposes" in gnome("show", str(two_rounds), above["id"]).stdout


def test_show_takes_the_formula_of_an_entry(two_rounds):
    entries = measured_entries(Store(str(two_rounds))).to_pylist()
    lowest = next(row for row in entries if row["ground_state"] == row["id"])
    assert gnome("show", str(two_rounds), lowest["formula"]).stdout.startswith(lowest["id"])


def test_show_says_what_became_of_a_job_that_is_no_entry(two_rounds, monkeypatch):
    store = Store(str(two_rounds))
    entries = measured_entries(store)
    results = store.read_table(committed(store, 2, "evaluate"), "results", RESULT_SCHEMA).to_pylist()
    stopped = {"id": "lost-failed", "status": "not_converged", "message": "largest force 0.3 eV/Å after 9 steps"}
    far = [2.5 * x for x in results[1]["lattice"]]  # no atom has a neighbour
    rows = [results[0] | stopped, results[1] | {"id": "lost-far", "lattice": far}]
    made = pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)
    monkeypatch.setattr(explaining, "newest_hull", lambda _: (None, 1))
    monkeypatch.setattr(Store, "read_table", lambda *_: made)
    with pytest.raises(UserError) as told:
        explained(store, entries, "lost-")
    failed, apart = (reduced_formula(row["numbers"]) for row in rows)
    assert f"job lost-failed ({failed}, round 1) was not_converged: {stopped['message']}; " in str(told.value)
    assert f"job lost-far ({apart}, round 1) was refused: isolated_atom" in str(told.value)
    with pytest.raises(UserError, match=r"no entry of .* starts with 'nobody'; `gnome export` lists the ids"):
        explained(store, entries, "nobody")


def test_the_lowest_of_a_composition_is_the_ground_state_of_all():
    entries = pa.table(
        {
            "id": ["a", "b", "c", "d", "e"],
            "formula": ["MgO", "SiO2", "MgO", "SiO2", "SiO2"],
            "e_form_per_atom": [-2.9, -3.1, -3.0, -3.2, -3.2],
        }
    )
    found = ground_states(entries)
    assert found["ground_state"].to_pylist() == ["c", "d", "c", "d", "d"]
    assert found["e_above_ground_state"].to_pylist() == pytest.approx([0.1, 0.1, 0, 0, 0])
