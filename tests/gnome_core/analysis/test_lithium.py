"""The superionic classifier and the waterfall of lithium conductors."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnome_core.analysis.li_conductors import analyse
from gnome_core.analysis.superionic import (
    FEATURES,
    SUPERIONIC,
    SuperionicModel,
    composition_features,
    crystal_features,
    fit_superionic,
    read_measurements,
)
from gnome_core.stability.hull import Hull
from tests.gnome_core.analysis.samples import any_cell, entries_of, rock_salt, with_band_gaps

OBELIX = Path(__file__).parents[4] / "shared" / "data" / "obelix_li_conductivity.parquet"
PHASES = {"Li": 0.0, "P": 0.0, "S": 0.0, "Cl2": 0.0, "Fe": 0.0, "Li2S": -1.5, "Li3P": -0.9, "LiCl": -2.1, "P2S5": -0.4,
          "Li3PS4": -1.25, "LiFeS2": -0.95, "FeS": -0.5}  # fmt: skip


def measurements(n: int, seed: int = 0) -> pa.Table:
    """Conductors that conduct when soft (sulfides), in families that tell nothing."""
    rng = np.random.default_rng(seed)
    soft = rng.random(n) < 0.5
    length = np.where(soft, 6.0, 5.0) + rng.normal(0, 0.3, n)
    good = soft ^ (rng.random(n) < 0.1)
    return pa.table(
        {
            "true_composition": np.where(soft, "Li3P1S4", "Li3P1O4").tolist(),
            "space_group_number": rng.integers(1, 231, n),
            **dict.fromkeys("abc", length),
            **{angle: np.full(n, 90.0) for angle in ("alpha", "beta", "gamma")},
            "ionic_conductivity_raw": [f"{s:g}" for s in np.where(good, 1e-3, 1e-7)],
            "family": [f"family {i % 7}" for i in range(n)],
            "doi": [f"doi {i % 11}" for i in range(n)],
        }
    )


def test_a_model_learns_what_conducts_and_survives_its_file(tmp_path):
    measured = read_measurements(measurements(120))
    model = fit_superionic(measured, "made up")
    assert model.training["auc"]["family"] > 0.8
    chance = model.probability(measured.features)
    assert ((chance > 0.5) == measured.superionic).mean() > 0.85
    model.save(tmp_path / "model.json")
    np.testing.assert_array_equal(SuperionicModel.load(tmp_path / "model.json").probability(measured.features), chance)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json is no superionic model"):
        SuperionicModel.load(tmp_path / "other.json")


def test_bounds_below_the_threshold_tell_the_class_and_bad_rows_are_counted():
    rows = measurements(8).to_pylist()
    rows[0]["ionic_conductivity_raw"] = "<1E-10"
    rows[1]["ionic_conductivity_raw"] = "<1E-2"
    rows[2]["ionic_conductivity_raw"] = "unknown"
    rows[3]["true_composition"] = "Na3P1S4"
    rows[4]["a"] = None
    rows[5]["ionic_conductivity_raw"] = "0.0001"
    measured = read_measurements(pa.Table.from_pylist(rows))
    assert len(measured.superionic) == 4
    assert measured.superionic[0] is np.False_
    assert measured.superionic[1] is np.True_  # the threshold itself counts
    assert measured.skipped == {"no_conductivity": 2, "no_lithium": 1, "bad_cell": 1, "bad_formula": 0}
    # The cells of a CSV file are text.
    rows = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    np.testing.assert_array_equal(read_measurements(pa.Table.from_pylist(rows)).features, measured.features)
    rows[5]["a"], rows[6]["space_group_number"], rows[7]["true_composition"] = "8.3(1)", "P n m a", "Li3-xPS4"
    measured = read_measurements(pa.Table.from_pylist(rows))
    assert measured.skipped == {"no_conductivity": 2, "no_lithium": 1, "bad_cell": 3, "bad_formula": 1}
    with pytest.raises(ValueError, match="lacks the columns doi"):
        read_measurements(measurements(3).drop_columns(["doi"]))
    with pytest.raises(ValueError, match="ten of each are needed"):
        fit_superionic(measured, "too few")


@pytest.mark.skipif(not OBELIX.exists(), reason="../shared/data is not here")
def test_measured_conductors_are_told_apart_across_families():
    model = fit_superionic(read_measurements(pq.read_table(OBELIX)), "obelix", holdout=True)
    assert model.training["auc"]["family"] > 0.7
    assert model.training["auc_withheld"] > 0.7
    shipped = Path(__file__).parents[3] / "gnome_core" / "data" / "superionic.json"
    np.testing.assert_allclose(SuperionicModel.load(shipped).coefficients, model.coefficients, rtol=0.02, atol=1e-3)


def test_features_of_a_cell():
    values = dict(zip(FEATURES, composition_features({"Li": 2, "S": 1}, 45.0, 225), strict=True))
    assert values["lithium_per_anion"] == 2
    assert values["volume_per_atom"] == 15
    assert values["soft_anion_share"] == 1
    assert values["anion_electronegativity"] == values["cation_electronegativity"] == 2.58
    np.testing.assert_allclose(
        crystal_features(rock_salt(3, 17, 5.1)), composition_features({"Li": 1, "Cl": 1}, 5.1**3 / 4, 225)
    )
    with pytest.raises(ValueError, match="needs lithium"):
        composition_features({"Na": 1, "Cl": 1}, 40.0, 225)


@pytest.fixture(scope="module")
def store():
    """Entries without a band gap, and their hull."""
    rounds = [0 if formula in ("Li", "P", "S", "Cl2", "Fe", "FeS", "P2S5") else 1 for formula in PHASES]
    entries = entries_of([any_cell(f) for f in PHASES], list(PHASES.values()), rounds, list(PHASES))
    return with_band_gaps(entries, {}), Hull.from_table(entries)


def test_the_waterfall_counts_every_step_and_says_what_is_unknown(store):
    gaps = {"Li2S": 3.5, "LiCl": 6.0, "Li3PS4": 2.4, "Li3P": 0.8}  # LiFeS2 fails before
    entries, hull = store
    analysis = analyse(with_band_gaps(entries, gaps), hull)
    steps = analysis.tables["waterfall"].to_pylist()
    assert [(step["left"], step["removed"], step["unknown"]) for step in steps[:4]] == [
        (5, 0, 0),
        (5, 0, 0),
        (4, 1, 0),
        (3, 1, 0),
    ]
    rows = {row["id"]: row for row in analysis.tables["crystals"].to_pylist()}
    assert rows["LiFeS2"]["transition_metals"] is True
    assert rows["Li2S"]["reduction_potential"] == pytest.approx(0.0, abs=1e-9)
    assert rows["LiCl"]["oxidation_potential"] == pytest.approx(4.2)  # 2 LiCl -> 2 Li + Cl2: 2 * 2.1
    assert [id_ for id_, row in rows.items() if row["candidate"]] == ["LiCl"]
    assert steps[-1]["left"] == 1
    for before, after in pairwise(steps):
        assert before["left"] == after["left"] + after["removed"]
    assert {row["band_gap_by"] for row in rows.values()} == {"a test", None}
    assert any("Band gaps: 4 by a test." in note for note in analysis.notes)
    few = analyse(with_band_gaps(entries, {"LiCl": 6.0}), hull).tables["waterfall"].to_pylist()[3]
    assert (few["left"], few["unknown"]) == (1, 3)


def test_filters_without_data_are_skipped_and_said_to_be(store):
    analysis = analyse(*store)
    assert not any("gap" in step["filter"] for step in analysis.tables["waterfall"].to_pylist())
    assert any("No band gap is known" in note for note in analysis.notes)
    assert any("No classifier" in note for note in analysis.notes)


def test_the_classifier_is_the_last_filter(store):
    model = fit_superionic(read_measurements(measurements(120)), "made up")
    analysis = analyse(*store, classifier=model, new_only=False)
    last = analysis.tables["waterfall"].to_pylist()[-1]
    assert last["filter"].startswith("superionic")
    rows = {row["id"]: row for row in analysis.tables["crystals"].to_pylist()}
    assert rows["Li"]["superionic_probability"] is None
    assert 0 < rows["Li3PS4"]["superionic_probability"] < 1
    assert f"{SUPERIONIC:g} S/cm" in analysis.notes[-1]
