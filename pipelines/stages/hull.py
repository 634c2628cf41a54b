"""hull: all entries so far -> distances to the hull; those near it become the next round's parents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.generation.parents import PARENT_SCHEMA, ParentTable
from gnome_core.stability.hull import ON_HULL, Hull
from pipelines.beam import tags
from pipelines.beam.tables import ReadTable, WriteTable
from pipelines.reading.committed import (
    HULL_FILE,
    VERTICES_FILE,
    committed,
    hull_until,
    hull_vertices,
    labels_of,
    once_per_commit,
)
from pipelines.reading.schemas import HULL_SCHEMA
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import WriteManifest, run_job
from pipelines.store.records import Commit, Manifest
from pipelines.store.store import Store


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config
    labelled = [*job.all_inputs("snapshot"), *job.all_inputs("ingest")]

    def build(pipeline: beam.Pipeline) -> None:
        entries = (
            pipeline | "Entries" >> ReadTable(root, labelled, "entries"),
            pipeline | "References" >> ReadTable(root, labelled, "references"),
        ) | beam.Flatten()
        measured = entries | "Measure" >> beam.ParDo(
            MeasureEntries(root, job.round, config.selection.parents_within)
        ).with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int], PARENTS: pa.RecordBatch}).with_outputs(
            tags.COUNTS, PARENTS, main="rows"
        )
        files = [
            measured.rows | "Write" >> WriteTable(root, path, "hull", HULL_SCHEMA, ("id",), config.part_files),
            measured[PARENTS]
            | "WriteParents" >> WriteTable(root, path, "parents", PARENT_SCHEMA, ("id",), config.part_files),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "hull", files, [measured[tags.COUNTS]])

    manifest = run_job(job, build, {})
    # What the workers of later stages map into memory.
    hull, _ = _recalled(job.store, hull_until(root, job.round), manifest)
    blobs = [
        job.store.write_blob(f"{path}/hull.arrow", HULL_FILE, hull.to_bytes()),
        job.store.write_blob(f"{path}/vertices.arrow", VERTICES_FILE, hull.vertices().to_bytes()),
    ]
    return manifest.model_copy(update={"files": [*manifest.files, *blobs]})


PARENTS = "parents"


@dataclass(frozen=True)
class HullColumns:
    """Per entry of `hull`, in its order: energies above hulls and of phase separation, eV/atom; whether it is on it."""

    hull: Hull
    above: np.ndarray
    above_others: np.ndarray
    phase_separation: np.ndarray
    above_snapshot: np.ndarray
    on_hull: np.ndarray


@once_per_commit(lambda root, round_: [labels_of(round_)])
def hull_columns(root: str, round_: int) -> HullColumns:
    """The columns of a round's hull: of entries in systems that the round changed made anew, of others taken over."""
    if not round_:
        hull, above_snapshot = hull_until(root, 0), None
    else:
        store = Store(root)
        earlier = hull_until(store.root, round_ - 1)
        hull, above_snapshot = _recalled(store, earlier, committed(store, round_ - 1, "hull"))
        new = store.read_table(committed(store, round_, "ingest"), "entries", ENTRY_SCHEMA)
        counts, e_form = atom_counts(new["numbers"]), new["e_form_per_atom"].to_numpy()
        hull = hull.extended(new["id"], counts, e_form, new["scale"].unique().to_pylist())
        above_snapshot = np.append(above_snapshot, hull_vertices(root, 0).e_above_hull(counts, e_form))
    hull.check_references()
    above = hull.entry_e_above_hull()
    return HullColumns(
        hull,
        above,
        hull.entry_e_above_others(),
        hull.entry_e_above_others(without_polymorphs=True),
        above if above_snapshot is None else above_snapshot,
        hull.stable_mask(),
    )


def _recalled(store: Store, hull: Hull, measured: Commit | Manifest) -> tuple[Hull, np.ndarray]:
    """The hull with the distances that its stage wrote, and those to the snapshot's hull."""
    rows = store.read_table(measured, "hull", HULL_SCHEMA)
    rows = rows.take(pc.index_in(hull.ids, rows["id"].combine_chunks()))
    hull.recall(rows["e_above_hull"].to_numpy(), rows["phase_separation_energy"].to_numpy())
    return hull, rows["e_above_hull_snapshot"].to_numpy()


@beam.typehints.with_output_types(pa.RecordBatch)
class MeasureEntries(beam.DoFn):
    """ENTRY_SCHEMA -> HULL_SCHEMA; entries at most `parents_within` eV/atom above the hull, and all that count as on
    it, go to the tag PARENTS."""

    def __init__(self, root: str, round_: int, parents_within: float):
        self.root, self.round, self.parents_within = root, round_, parents_within

    def setup(self) -> None:
        self.columns = hull_columns(self.root, self.round)

    def process(self, entries: pa.RecordBatch) -> Iterator:
        columns = self.columns
        rows = pc.index_in(entries["id"], columns.hull.ids).to_numpy()
        above = columns.above[rows]
        measured = {
            **{name: entries[name] for name in ("id", "formula", "chemsys", "round", "e_form_per_atom")},
            "e_above_hull_snapshot": columns.above_snapshot[rows],
            "e_above_hull": above,
            "e_above_hull_others": pa.array(columns.above_others[rows], from_pandas=True),
            "phase_separation_energy": pa.array(columns.phase_separation[rows], from_pandas=True),
            "on_hull": columns.on_hull[rows],
        }
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, entries.num_rows))
        near = entries.filter(pa.array(above <= max(self.parents_within, ON_HULL)))
        if near.num_rows:
            yield beam.pvalue.TaggedOutput(PARENTS, ParentTable.from_entries(near).to_batch())
        yield pa.RecordBatch.from_arrays([pa.array(measured[n]) for n in HULL_SCHEMA.names], schema=HULL_SCHEMA)
