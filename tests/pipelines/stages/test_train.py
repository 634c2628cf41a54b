"""What the models of a store learn from."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq

from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import embedded_entries, evaluated_entries
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.ensembles.rows import labelled_rows
from pipelines.cli.config import round_config
from pipelines.reading.committed import references
from pipelines.rounds import driver
from pipelines.stages.train import labelled, shipped_candidates


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
    assert references(str(tmp_path / "True")).scale == "chgnet-0.3.0"


def _as_shipped(found):
    by_id = dict(zip(*(evaluated_entries()[name].to_pylist() for name in ("id", "e_form_per_atom")), strict=True))
    return [by_id[id_] for id_ in found["id"].to_pylist()]


def test_the_shipped_candidates_hold_no_withheld_system():
    assert len(evaluated_entries()) > 2_000
    assert not any(map(is_withheld, evaluated_entries()["chemsys"].unique().to_pylist()))
    assert len(evaluated_entries("another")) == 0
    rows = labelled_rows("evaluated", "structural", "none")
    assert len(rows) == len(evaluated_entries())
    assert not rows.rejected.total()
