"""emit: selected candidates -> jobs for the evaluator."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from dft.evaluator import make_evaluator
from dft.jobs import protocol_json
from pipelines import tags
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.round import Job
from pipelines.schemas import PROPOSAL_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.emit import MakeJobs
from pipelines.transforms.top import KeepTop


def run(job: Job) -> Manifest:
    root, path, name = job.store.root, job.attempt.path, job.config.evaluation.evaluator
    protocol = protocol_json(make_evaluator(name, job.config.evaluation.relaxation()).protocol)

    def build(pipeline: beam.Pipeline) -> None:
        made = (
            pipeline
            | "Selected" >> ReadTable(root, job.input("select"), "selected")
            | "MakeJobs"
            >> beam.ParDo(MakeJobs(root, job.round, name, protocol))
            .with_output_types(pa.RecordBatch, **tags.HINTS)
            .with_outputs(tags.COUNTS, main="rows")
        )
        # Two recipes can end in one crystal.
        distinct, same = made.rows | "Deduplicate" >> KeepTop("id", 1, ("digest",), "same_job")
        files = distinct | "Write" >> WriteTable(root, path, "jobs", PROPOSAL_SCHEMA, ("id",), 1)
        pipeline | "Manifest" >> WriteManifest(root, path, "jobs", [files], [made[tags.COUNTS], *same])

    return run_job(job, build, {})
