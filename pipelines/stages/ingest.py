"""ingest: results -> labelled entries; how many random structures of each composition converged."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from gnome_core.crystals.arrow import ENTRY_SCHEMA
from pipelines import tags
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.round import Job
from pipelines.schemas import CONVERGENCE_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.compositions import CONVERGENCE, CountConvergence
from pipelines.transforms.ingest import ToEntries


def run(job: Job) -> Manifest:
    root, path = job.store.root, job.attempt.path

    def build(pipeline: beam.Pipeline) -> None:
        made = (
            pipeline
            | "Results" >> ReadTable(root, job.input("evaluate"), "results")
            | "ToEntries"
            >> beam.ParDo(ToEntries(root, job.round))
            .with_output_types(pa.RecordBatch, **tags.HINTS, **{CONVERGENCE: tuple[str, tuple[int, int, float]]})
            .with_outputs(tags.COUNTS, CONVERGENCE, main="rows")
        )
        files = [
            made.rows | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), 1),
            made[CONVERGENCE]
            | "Converged" >> CountConvergence()
            | "WriteConverged" >> WriteTable(root, path, "convergence", CONVERGENCE_SCHEMA, ("formula",), 1),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", files, [made[tags.COUNTS]])

    return run_job(job, build, {})
