"""hull: all entries so far -> distances to the hull; those near it become the next round's parents."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from gnome_core.generation.parents import PARENT_SCHEMA
from pipelines import tags
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.resources import HULL_FILE, hull_until
from pipelines.round import Job
from pipelines.schemas import HULL_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.hull import PARENTS, MeasureEntries


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
    hull = hull_until(root, job.round)
    blob = job.store.write_blob(f"{path}/hull.arrow", HULL_FILE, hull.to_bytes())
    return manifest.model_copy(update={"files": [*manifest.files, blob]})
