"""The hull stage: what it commits equals a hull made anew from all entries, and later stages map its file."""

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.pvalue import TaggedOutput

from gnome_core.stability.hull import ON_HULL, Hull
from pipelines.reading import committed as committed_module
from pipelines.reading.committed import HULL_FILE, entries_until, hull_until, hull_vertices
from pipelines.reading.schemas import HULL_SCHEMA
from pipelines.stages.hull import PARENTS, MeasureEntries
from pipelines.store.records import table_files
from pipelines.store.store import Store


@pytest.mark.parametrize("round_", [0, 1, 2])
def test_an_updated_hull_equals_one_made_anew(two_rounds, round_):
    store = Store(str(two_rounds))
    rows = store.read_table(store.commit(round_, "hull"), "hull", HULL_SCHEMA).to_pydict()
    entries = entries_until(store, round_)
    hull, snapshot = Hull.from_table(entries), Hull.from_table(entries_until(store, 0))
    order = [rows["id"].index(id_) for id_ in hull.ids.to_pylist()]
    compositions = hull.compositions(range(len(hull)))
    for column, expected in (
        ("e_above_hull", hull.entry_e_above_hull()),
        ("e_above_hull_others", hull.entry_e_above_others()),
        ("phase_separation_energy", hull.entry_e_above_others(without_polymorphs=True)),
        ("e_above_hull_snapshot", snapshot.e_above_hull(compositions, hull.e_form)),
        ("on_hull", hull.stable_mask()),
    ):
        committed = np.array(rows[column], float)[order]
        np.testing.assert_allclose(committed, expected.astype(float), atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("within", [0.0, 0.1])
def test_parents_are_near_the_hull_or_the_stable_ones_alone(two_rounds, within):
    store = Store(str(two_rounds))
    stage = MeasureEntries(store.root, 2, within)
    stage.setup()
    (batch,) = entries_until(store, 2).to_batches()
    outputs = [o for o in stage.process(batch) if isinstance(o, TaggedOutput) and o.tag == PARENTS]
    parents = {id_ for output in outputs for id_ in output.value["id"].to_pylist()}
    rows = store.read_table(store.commit(2, "hull"), "hull", HULL_SCHEMA).to_pylist()
    assert parents == {row["id"] for row in rows if row["e_above_hull"] <= max(within, ON_HULL)}
    assert parents >= {row["id"] for row in rows if row["on_hull"]}
    assert within or len(parents) < len(rows), "all of the tiny snapshot lies within 0.1 eV/atom"


def test_workers_map_the_committed_file(two_rounds):
    store = Store(str(two_rounds))
    (file,) = table_files(store.commit(2, "hull"), HULL_FILE)
    before = pa.total_allocated_bytes()
    hull = hull_until.__wrapped__(store.root, 2)  # not what this process holds already
    assert pa.total_allocated_bytes() - before < file.bytes
    assert hull.ids.to_pylist() == entries_until(store, 2, ["id"])["id"].to_pylist()
    np.testing.assert_array_equal(hull.e_form, entries_until(store, 2)["e_form_per_atom"].to_numpy())


def test_workers_ask_the_vertices_alone(two_rounds, monkeypatch):
    whole, vertices = hull_until(str(two_rounds), 2), hull_vertices(str(two_rounds), 2)
    assert set(vertices.ids.to_pylist()) < set(whole.ids.to_pylist())
    compositions = whole.compositions(range(len(whole)))
    np.testing.assert_allclose(vertices.e_hull(compositions), whole.e_hull(compositions), atol=1e-12)
    monkeypatch.setattr(committed_module, "VERTICES_FILE", "unknown to an older version")
    older = hull_vertices.__wrapped__(str(two_rounds), 2)
    assert older.ids.equals(whole.ids)
