"""What the models of a store learn from."""

import pyarrow.parquet as pq

from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import embedded_entries
from pipelines.cli.config import round_config
from pipelines.rounds import driver
from pipelines.stages.train import labelled


def test_withheld_systems_of_the_embedded_snapshot_are_for_hulls_alone(tiny, tmp_path):
    """Al-Li is withheld. Settings without a holdout train on it where a user's own file holds it."""
    pq.write_table(embedded_entries({"Al", "Li"}), tmp_path / "own.parquet")
    learned = {}
    for name, snapshot in (("embedded", None), ("own", str(tmp_path / "own.parquet"))):
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
