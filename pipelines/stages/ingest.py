"""ingest: results -> labelled entries."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from gnome_core.crystals.arrow import ENTRY_SCHEMA
from pipelines import tags
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.round import Job
from pipelines.store import Manifest
from pipelines.transforms.ingest import ToEntries


def run(job: Job) -> Manifest:
    root, path = job.store.root, job.attempt.path

    def build(pipeline: beam.Pipeline) -> None:
        made = (
            pipeline
            | "Results" >> ReadTable(root, job.input("evaluate"), "results")
            | "ToEntries"
            >> beam.ParDo(ToEntries(root, job.round))
            .with_output_types(pa.RecordBatch, **tags.HINTS)
            .with_outputs(tags.COUNTS, main="rows")
        )
        files = made.rows | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), 1)
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", [files], [made[tags.COUNTS]])

    return run_job(job, build, {})
