"""Analyses of what the rounds did: discovery, growth, displaced entries, scaling."""

import numpy as np
import pyarrow as pa
import pytest

from gnome_core.analysis import discovery, displaced, growth, phase_separation, scaling
from gnome_core.stability.hull import Hull
from tests.gnome_core.analysis.samples import any_cell, entries_of, measured


def test_discovery_by_round_and_number_of_elements():
    jobs = pa.table(
        {
            "round": pa.array([1, 1, 1, 1, 2, 2], pa.int32()),
            "chemsys": ["Li-O", "Li-O", "Fe-Li-O", "Fe-Li-O", "Li-O", "Fe-O"],
            "selected_by_model": [True, True, True, False, True, True],
            "selected_by_random": [False, False, True, True, False, False],
            "predicted_e_form": [-1.0, -1.0, -0.5, -0.2, -1.0, -0.6],
            "e_form": [-1.02, -0.8, -0.5, None, -1.1, -0.6],
            "e_above_hull": [-0.02, 0.1, 0.0, None, -0.1, 0.03],
        }
    )
    analysis = discovery.analyse(jobs)
    rows = {(row["group"], row["value"]): row for row in analysis.tables["metrics"].to_pylist()}
    assert rows["round", "1"]["hit_rate_model"] == pytest.approx(2 / 3)
    assert rows["round", "1"]["hit_rate_random"] == pytest.approx(1 / 2)  # a failed evaluation is a miss
    assert rows["round", "1"]["daf_random"] == pytest.approx(4 / 3)
    # Predicted above the hull by (-0.02 + 0.02, 0.1 - 0.2, 0): all three called stable, two of them are.
    assert rows["round", "1"]["precision"] == pytest.approx(2 / 3)
    assert rows["round", "1"]["recall"] == 1.0
    assert rows["round", "1"]["failed"] == 1
    assert rows["elements", "2"]["evaluated"] == 4
    assert rows["round, elements", "2, 2"]["hit_rate_model"] == 0.5
    assert analysis.summary["evaluated"] == 6
    assert not any("five" in name for name in analysis.summary), "no such crystal was evaluated"
    assert analysis.summary["MAE (eV/atom)"] == pytest.approx((0.02 + 0.2 + 0 + 0.1 + 0) / 5)


def test_five_and_more_elements_are_counted_together():
    systems = ["Li-O", "A-B-C-D-E", "A-B-C-D-E", "A-B-C-D-E-F"]
    jobs = pa.table(
        {
            "round": pa.array([1] * 4, pa.int32()),
            "chemsys": systems,
            "selected_by_model": [True] * 4,
            "selected_by_random": [False] * 4,
            "predicted_e_form": [-1.0] * 4,
            "e_form": [-1.0] * 4,
            "e_above_hull": [0.1, -0.1, 0.2, -0.1],
        }
    )
    analysis = discovery.analyse(jobs)
    (row,) = (row for row in analysis.tables["metrics"].to_pylist() if row["group"] == "five and more elements")
    assert (row["evaluated"], row["stable"]) == (3, 2)
    assert analysis.summary["hit rate, five and more elements"] == row["hit_rate_model"] == pytest.approx(2 / 3)


@pytest.fixture
def rounds():
    """Li-O: the Li2O2 of round 1 displaces both compounds of the snapshot, the LiO2 of round 2 only joins it."""
    formulas = ["Li", "O2", "Li2O", "LiO3", "Li2O2", "LiO2"]
    energies = [0.0, 0.0, -1.0, -0.55, -1.6, -1.3]
    found = [0, 0, 0, 0, 1, 2]
    entries = entries_of([any_cell(f) for f in formulas], energies, found, formulas).drop_columns(
        ["e_above_hull", "on_hull"]
    )
    hulls = {}
    for round_ in (0, 1, 2):
        known = entries.filter(np.array(found) <= round_)
        hulls[round_] = measured(known, known, entries.filter(np.array(found) == 0))
    return hulls, Hull.from_table(entries)


def test_growth_counts_what_is_on_each_rounds_hull(rounds):
    analysis = growth.analyse(rounds[0])
    counts = {(row["round"], row["elements"]): row for row in analysis.tables["counts"].to_pylist()}
    assert [counts[r, 2]["stable"] for r in (0, 1, 2)] == [2, 1, 2]
    assert [counts[r, 2]["stable_new"] for r in (0, 1, 2)] == [0, 1, 2]
    assert [counts[r, 2]["stable_found_in_round"] for r in (0, 1, 2)] == [0, 1, 1]
    assert all(counts[r, 1]["stable"] == 2 for r in (0, 1, 2))
    assert analysis.summary["of these new"] == 2
    # LiO2 and Li2O2 are below the line from Li2O to LiO3; one of them would be enough on the hull of all.
    assert [counts[r, 2]["new_below_snapshot"] for r in (0, 1, 2)] == [0, 1, 2]
    assert (analysis.summary["new, stable against the snapshot"], analysis.summary["their compositions"]) == (2, 2)


def test_what_a_later_round_displaces_stays_stable_against_the_snapshot():
    """GNoME's 2.2 million beside its 381,000: two structures of one composition and one that is displaced."""
    formulas = ["Li", "O2", "Li2O2", "Li4O4", "LiO2"]
    entries = entries_of([any_cell(f) for f in formulas], [0, 0, -1.0, -0.9, -1.5], [0, 0, 1, 1, 2], formulas)
    plain = entries.drop_columns(["e_above_hull", "on_hull"])
    snapshot = plain.slice(0, 2)
    analysis = growth.analyse({0: measured(snapshot, snapshot, snapshot), 2: measured(plain, plain, snapshot)})
    assert analysis.summary["of these new"] == 1  # Li2O2 lies above the line from Li to LiO2
    assert (analysis.summary["new, stable against the snapshot"], analysis.summary["their compositions"]) == (3, 2)


def test_phase_separation_of_discoveries_beside_the_snapshots_on_its_own_hull(rounds):
    hulls, _ = rounds
    analysis = phase_separation.analyse(hulls[0], hulls[2])
    rows = {(row["elements"], row["of"]): row for row in analysis.tables["distribution"].to_pylist()}
    assert set(rows) == {(2, "snapshot"), (2, "new")}
    energies = {row["id"]: row["phase_separation_energy"] for row in analysis.tables["crystals"].to_pylist()}
    # Without Li2O its composition is Li and LiO3: 4/9 of the atoms of LiO3 per atom of Li2O.
    assert energies["Li2O"] == pytest.approx(-1.0 + 0.55 * 4 / 9)
    # On the hull of all, without LiO2: O2 and Li2O2, 2/3 of its atoms.
    assert energies["LiO2"] == pytest.approx(-1.3 + 1.6 * 2 / 3)
    assert rows[2, "new"]["crystals"] == rows[2, "snapshot"]["crystals"] == 2
    assert rows[2, "new"]["phase_separation_energy"] == pytest.approx((energies["LiO2"] + energies["Li2O2"]) / 2)
    assert 0 < rows[2, "new"]["distance_to_snapshot"] <= 1
    assert rows[2, "snapshot"]["distance_to_snapshot"] is None
    assert analysis.summary["new, median, four elements (meV/atom)"] is None


def test_displaced_entries_name_the_round_and_what_displaced_them(rounds):
    analysis = displaced.analyse(*rounds)
    rows = {row["id"]: row for row in analysis.tables["displaced"].to_pylist()}
    assert set(rows) == {"Li2O", "LiO3"}
    assert rows["LiO3"]["displaced_in_round"] == 1
    assert rows["Li2O"]["displaced_in_round"] == 1
    assert (rows["Li2O"]["displaced_by"], rows["LiO3"]["displaced_by"]) == ("Li2O2", "LiO2")
    assert rows["Li2O"]["e_above_hull"] == pytest.approx(1.6 * 2 / 3 - 1.0)
    assert rows["Li2O"]["reaction"] == "2 Li2O -> Li2O2 + 2 Li"
    assert analysis.summary["stable in the snapshot"] == 4


def test_a_power_law_is_recovered_with_its_error():
    rng = np.random.default_rng(0)
    size = np.repeat([100, 300, 1000, 3000, 10_000], 4)
    error = 3.0 * size**-0.4 * np.exp(rng.normal(0, 0.03, len(size)))
    law = scaling.fit_power_law(size, error)
    assert law.exponent == pytest.approx(-0.4, abs=0.02)
    assert abs(law.exponent + 0.4) < 4 * law.exponent_error
    assert law.at(1e5) == pytest.approx(3.0 * 1e5**-0.4, rel=0.1)
    assert scaling.fit_power_law(size[:8], error[:8]) is None
    assert scaling.fit_power_law(np.array([2000, 2010, 2020]), np.array([0.2, 0.19, 0.1])) is None


def test_scaling_says_when_there_are_too_few_sizes():
    members = pa.table(
        {
            "round": [0, 0, 1],
            "member": [0, 1, 0],
            "n_train": [100, 100, 150],
            "val_mae": pa.array([0.2, None, 0.15]),
        }
    )
    analysis = scaling.analyse(members)
    assert analysis.summary == {"members": 2, "sizes": 2}
    assert "it takes 3 training-set sizes" in analysis.notes[-1]
