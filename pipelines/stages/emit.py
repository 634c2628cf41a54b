"""emit: selected candidates, and random structures of selected compositions -> jobs for the evaluator, in folders of
their own where a program is to find them."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from dft.evaluators.make import make_evaluator
from dft.names import is_engine
from dft.tables import protocol_json
from gnome_core.compositions.formulas import NUMBERS
from pipelines import tags
from pipelines.config import derived_seed
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.round import Job
from pipelines.schemas import PACKING_SCHEMA, PROPOSAL_SCHEMA, SELECTED_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.emit import MakeJobs
from pipelines.transforms.jobs import WriteJobs, check_library
from pipelines.transforms.score import PACKING, CountPacking
from pipelines.transforms.top import KeepTop


def run(job: Job) -> Manifest:
    evaluation = job.config.evaluation
    root, path, name = job.store.root, job.attempt.path, evaluation.evaluator
    protocol = protocol_json(make_evaluator(name, evaluation.relaxation(), job.config.dft).protocol)
    relaxation = (evaluation.pre_relax, evaluation.relaxation()) if evaluation.pre_relax else None
    lacking = _lacking(job) if is_engine(name) else frozenset()
    seed = derived_seed(job.config, "search", job.round)
    search = (job.config.generation.random_search, seed) if job.config.searches else None

    def build(pipeline: beam.Pipeline) -> None:
        made = (
            pipeline
            | "Selected" >> ReadTable(root, job.input("select"), "selected")
            | "MakeJobs"
            >> beam.ParDo(MakeJobs(root, job.round, name, protocol, lacking, search, relaxation))
            .with_output_types(pa.RecordBatch, **tags.HINTS, **{PACKING: tuple[str, tuple[int, int]]})
            .with_outputs(tags.COUNTS, PACKING, main="rows")
        )
        # Two recipes can end in one crystal.
        distinct, same = made.rows | "Deduplicate" >> KeepTop("id", 1, ("digest",), "same_job")
        if is_engine(name):
            distinct = distinct | "WriteJobs" >> beam.ParDo(WriteJobs(root, job.config.dft))
        files = [
            distinct | "Write" >> WriteTable(root, path, "jobs", PROPOSAL_SCHEMA, ("id",), 1),
            made[PACKING]
            | "Packing" >> CountPacking()
            | "WritePacking" >> WriteTable(root, path, "packing", PACKING_SCHEMA, ("formula",), 1),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "jobs", files, [made[tags.COUNTS], *same])

    return run_job(job, build, {})


def _lacking(job: Job) -> frozenset[str]:
    """Elements of the selected candidates that the engine has no potential for; looked up once for all jobs."""
    selected = job.store.read_table(job.input("select"), "selected", SELECTED_SCHEMA, ["chemsys"])
    elements = {element for system in selected["chemsys"].unique().to_pylist() for element in system.split("-")}
    checked = check_library(job.config.evaluation.evaluator, job.config.dft, [NUMBERS[e] for e in sorted(elements)])
    return checked.lacking
