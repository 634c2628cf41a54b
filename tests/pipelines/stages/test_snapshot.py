"""Labelled snapshots whose elements lack a reference."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core.crystals.arrow import ENTRY_SCHEMA
from pipelines.reading.schemas import HULL_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.config import load_config


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
