"""What the models of a store learn from."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import SCALE, embedded_entries, evaluated_entries
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.ensembles.rows import labelled_rows
from pipelines.cli.config import round_config
from pipelines.reading.committed import references
from pipelines.rounds import driver
from pipelines.stages.train import draw, labelled, shipped_candidates


def test_withheld_systems_of_the_embedded_snapshot_are_for_hulls_alone(tiny, tmp_path):
    """Al-Li is withheld. Settings without a holdout train on it where a user's own file holds it."""
    pq.write_table(embedded_entries({"Al", "Li"}), tmp_path / "own.parquet")
    learned = {}
    for name, snapshot in (("embedded", "embedded"), ("own", str(tmp_path / "own.parquet"))):
        config = round_config(tiny / "round.toml", snapshots=[snapshot], chemsys="Li-Al")
        assert config.holdout == "none"
        store = driver.init_store(str(tmp_path / name), config)
        list(driver.run_stages(store, 0, ["snapshot"]))
        entries = store.read_table(store.commit(0, "snapshot"), "entries", ENTRY_SCHEMA)
        compounds = entries["chemsys"].to_pylist().count("Al-Li")
        formulas = {
            f for f, s in zip(*(entries[c].to_pylist() for c in ("formula", "chemsys")), strict=True) if "-" in s
        }
        assert compounds > len(formulas) > 0
        learned[name] = [len(labelled(store.root, 0, config, kind).e_form) for kind in ("structural", "compositional")]
    assert learned["own"] == [len(entries), len(formulas) + 2]
    assert learned["embedded"] == [len(entries) - compounds, 2]


def test_candidates_that_come_with_the_package_are_learnt_from_on_their_scale(tiny, tmp_path):
    """Energies are measured from the store's own elements."""
    (system, _), *_ = Counter(evaluated_entries()["chemsys"].to_pylist()).most_common(1)
    learned = {}
    for shipped in (True, False):
        config = round_config(tiny / "round.toml", chemsys=system).model_copy(update={"shipped_candidates": shipped})
        store = driver.init_store(str(tmp_path / str(shipped)), config)
        list(driver.run_stages(store, 0, ["snapshot"]))
        learned[shipped] = labelled(store.root, 0, config, "structural")
    found = shipped_candidates(str(tmp_path / "True"))
    assert 0 < len(found) < len(evaluated_entries())
    assert learned[True].proposed.sum() == len(found) == len(learned[True].e_form) - len(learned[False].e_form)
    assert not learned[False].proposed.any()
    rows = np.flatnonzero(learned[True].proposed)
    np.testing.assert_array_equal(learned[True].e_form[rows], found.sort_by("id")["e_form_per_atom"].to_numpy())
    assert learned[True].is_train[rows].tolist() == [is_train(f) for f in found.sort_by("id")["formula"].to_pylist()]
    # The snapshot's elements are those that the file's energies were measured from.
    np.testing.assert_allclose(found["e_form_per_atom"].to_numpy(), _as_shipped(found), atol=5e-3)
    assert references(str(tmp_path / "True")).scale == SCALE


def _as_shipped(found):
    by_id = dict(zip(*(evaluated_entries()[name].to_pylist() for name in ("id", "e_form_per_atom")), strict=True))
    return [by_id[id_] for id_ in found["id"].to_pylist()]


def test_where_an_epoch_replays_a_sample_no_more_graphs_are_made_than_its_training_sees(tiny, tmp_path):
    config = round_config(tiny / "round.toml", chemsys="Li-Al")
    store = driver.init_store(str(tmp_path / "store"), config)
    list(driver.run_stages(store, 0, ["snapshot"]))
    settings = config.training.model_copy(update={"first": "pretrained", "fine_tune_epochs": 2, "replay": 2})
    config = config.model_copy(update={"shipped_candidates": False, "training": settings})
    whole = config.model_copy(update={"training": settings.model_copy(update={"replay": None})})
    every = labelled(store.root, 0, whole, "structural")
    drawn = labelled(store.root, 0, config, "structural")
    assert len(every.e_form) > len(drawn.e_form) == len(drawn.graphs.n_nodes) == 4
    assert np.isin(drawn.e_form, every.e_form).all()
    assert settings.model_copy(update={"first": "scratch"}).most_replayed(0) is None


def test_old_labels_are_drawn_at_random_and_new_ones_all_stay():
    parts = [pa.table({"id": np.arange(start, stop)}) for start, stop in ((0, 40), (40, 45), (100, 103), (45, 100))]
    found = [draw(parts, [True, True, False, True], 30, np.random.default_rng(seed)) for seed in (0, 1)]
    for taken in found:
        ids = [part["id"].to_pylist() for part in taken]
        assert ids[2] == [100, 101, 102]
        assert len(ids[0] + ids[1] + ids[3]) == 30
        assert all(own == sorted(set(own) & set(part["id"].to_pylist())) for own, part in zip(ids, parts, strict=True))
        assert len(ids[0]) > 5
    assert found[0] != found[1]


def test_the_shipped_candidates_hold_no_withheld_system():
    assert len(evaluated_entries()) > 2_000
    assert not any(map(is_withheld, evaluated_entries()["chemsys"].unique().to_pylist()))
    assert len(evaluated_entries("another")) == 0
    rows = labelled_rows("evaluated", "structural", "none")
    assert len(rows) == len(evaluated_entries())
    assert not rows.rejected.total()
