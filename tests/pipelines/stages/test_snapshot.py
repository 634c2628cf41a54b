"""Snapshots whose elements lack a reference, and crystals that the evaluator cannot judge."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, record_batch
from gnome_core.crystals.crystal import Crystal
from pipelines.reading.schemas import HULL_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.config import load_config
from tests.gnome_core.potentials.samples import FCC
from tests.gnome_core.stability.samples import salt, tetrafluoride


def test_a_missing_reference_is_added_or_its_element_named(tiny, tmp_path):
    entries = pq.read_table(tiny / "snapshot.parquet")
    without_lithium = entries.filter(pc.not_equal(entries["chemsys"], "Li"))
    polonide = without_lithium.slice(0, 1).to_pylist()[0] | {
        "id": "polonide",
        "numbers": [12, 84],
        "frac_coords": [0.0] * 3 + [0.5] * 3,
        "formula": "MgPo",
        "chemsys": "Mg-Po",
    }
    table = pa.concat_tables([without_lithium, pa.Table.from_pylist([polonide], schema=without_lithium.schema)])
    pq.write_table(table, tmp_path / "snapshot.parquet")
    config = load_config(str(tiny / "round.toml")).model_copy(update={"snapshot": str(tmp_path / "snapshot.parquet")})
    store = driver.init_store(str(tmp_path / "store"), config)
    for _ in driver.run_stages(store, 0, ["snapshot", "hull"]):
        pass
    counts = store.commit(0, "snapshot").counts
    assert counts.rejected == {"missing_reference_Po": 1}
    assert (counts.n_in, counts.n_out) == (len(table), len(table) - 1)
    references = store.read_table(store.commit(0, "snapshot"), "references", ENTRY_SCHEMA)
    assert references["chemsys"].to_pylist() == ["Li"]
    hull = store.read_table(store.commit(0, "hull"), "hull", HULL_SCHEMA)
    assert len(hull) == len(table)
    assert pc.min(hull["e_above_hull"]).as_py() > -1e-6


def test_crystals_that_the_evaluator_cannot_judge_are_rejected_by_name(tiny, tmp_path):
    salt = Crystal(5.6 * FCC, [[0, 0, 0], [0.5] * 3], [12, 8])
    polonide = Crystal(salt.lattice, salt.frac_coords, [12, 84])
    vacuum = Crystal(20.0 * np.eye(3), [[0, 0, 0]], [12])
    names = ["oxide", "polonide", "magnesium", "vacuum"]
    magnesium = Crystal(4.5 * FCC, [[0, 0, 0]], [12])
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), names, [salt, polonide, magnesium, vacuum])
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "crystals.parquet")
    config = load_config(str(tiny / "round.toml"))
    evaluation = config.evaluation.model_copy(update={"max_steps": 60})
    config = config.model_copy(update={"snapshot": str(tmp_path / "crystals.parquet"), "evaluation": evaluation})
    store = driver.init_store(str(tmp_path / "store"), config)
    for _ in driver.run_stages(store, 0, ["snapshot"]):
        pass
    commit = store.commit(0, "snapshot")
    assert commit.counts.rejected == {"unknown_element": 1, "isolated_atom": 1}
    assert (commit.counts.n_in, commit.counts.n_out) == (4, 2)
    entries = store.read_table(commit, "entries", ENTRY_SCHEMA)
    assert sorted(entries["id"].to_pylist()) == ["magnesium", "oxide"]
    # Magnesium's reference is the metal's energy, not that of a lone atom, and oxygen's is the package's.
    oxide = entries.filter(pc.equal(entries["id"], "oxide"))
    assert -3.2 < oxide["e_form_per_atom"][0].as_py() < -2.5


def test_nonsense_is_no_entry_and_no_reference(tiny, tmp_path):
    """Relaxations that end at once, however large the forces: what comes out is what went in."""
    crystals = {
        "blown": tetrafluoride(55.0),
        "sodium": Crystal(4.2 * (np.ones((3, 3)) / 2 - np.eye(3)), [[0, 0, 0]], [11]),
        "salt": salt(2.8),
        "magnesium": Crystal(7.2 * FCC, [[0, 0, 0]], [12]),  # four times its volume
        "oxide": Crystal(4.2 * FCC, [[0, 0, 0], [0.5] * 3], [12, 8]),
    }
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), list(crystals), list(crystals.values()))
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "crystals.parquet")
    config = load_config(str(tiny / "round.toml"))
    evaluation = config.evaluation.model_copy(update={"fmax": 1e9})
    config = config.model_copy(update={"snapshot": str(tmp_path / "crystals.parquet"), "evaluation": evaluation})
    store = driver.init_store(str(tmp_path / "store"), config)
    for _ in driver.run_stages(store, 0, ["snapshot"]):
        pass
    counts = store.commit(0, "snapshot").counts
    assert counts.rejected == {"implausible_volume": 2, "missing_reference_Mg": 1}
    assert (counts.n_in, counts.n_out) == (5, 2)
