"""score: candidates -> predicted formation energies and distances to the hull, through RunInference."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.inference.base import RunInference

from pipelines import progress, tags
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.members import member_paths
from pipelines.round import Job
from pipelines.schemas import PACKING_SCHEMA, SCORED_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.score import (
    PACKING,
    CountPacking,
    ExpandCandidates,
    JaxEnsembleHandler,
    MeasureAgainstHull,
)


def run(job: Job) -> Manifest:
    root, path, last = job.store.root, job.attempt.path, job.round - 1
    members = member_paths(job.store, job.input("train"))[: job.config.scoring.members]
    candidates = job.input("generate")
    progress.expect(candidates.rows("candidates"), "candidates")

    def build(pipeline: beam.Pipeline) -> None:
        expanded = (
            pipeline
            | "Candidates" >> ReadTable(root, candidates, "candidates")
            | "Expand"
            >> beam.ParDo(ExpandCandidates(root, last))
            .with_output_types(pa.RecordBatch, **tags.HINTS, **{PACKING: tuple[str, tuple[int, int]]})
            .with_outputs(tags.COUNTS, PACKING, main="rows")
        )
        predicted = expanded.rows | "Predict" >> RunInference(
            JaxEnsembleHandler(members, job.config.scoring.over_volumes)
        ).with_output_types(pa.RecordBatch)
        measured = predicted | "Hull" >> beam.ParDo(MeasureAgainstHull(root, last)).with_output_types(
            pa.RecordBatch, **tags.HINTS
        ).with_outputs(tags.COUNTS, tags.DEAD, main="rows")
        packing = expanded[PACKING] | "Packing" >> CountPacking()
        files = [
            measured.rows
            | "Write" >> WriteTable(root, path, "scored", SCORED_SCHEMA, ("digest",), job.config.part_files),
            packing | "WritePacking" >> WriteTable(root, path, "packing", PACKING_SCHEMA, ("formula",), 1),
        ]
        counts = [expanded[tags.COUNTS], measured[tags.COUNTS]]
        pipeline | "Manifest" >> WriteManifest(root, path, "scored", files, counts, [measured[tags.DEAD]])

    return run_job(job, build, {"members": len(members)})
