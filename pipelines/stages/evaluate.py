"""evaluate: jobs -> results and relaxation frames: by an evaluator in the workers, or from where
first-principles programs left them."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from dft.evaluators.make import make_evaluator
from dft.jobs.folders import State
from dft.names import is_engine
from dft.tables import DONE, FRAME_SCHEMA, RESULT_SCHEMA, protocol_json
from pipelines.beam import progress, tags
from pipelines.beam.options import network_hints
from pipelines.beam.tables import WriteTable
from pipelines.evaluation.batches import (
    CRYSTAL_COLUMNS,
    FRAMES,
    Batches,
    EvaluateBatch,
    check_protocol,
    evaluate_batches,
    write_batches,
)
from pipelines.evaluation.jobs import ReadJobs, read_jobs, run_waiting
from pipelines.reading.committed import all_proposals, committed_statuses, proposals
from pipelines.reading.engine_jobs import engine_jobs
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import FromDriver, WriteManifest, run_job
from pipelines.store.records import Manifest


def run(job: Job) -> Manifest:
    if is_engine(job.config.evaluation.evaluator):
        return _take_results(job)
    root, settings = job.store.root, job.config.evaluation
    jobs = proposals(root, job.round)
    evaluator = make_evaluator(settings.evaluator, settings.relaxation())
    for protocol in jobs["protocol"].unique().to_pylist():  # a potential's file may have been replaced since
        check_protocol(evaluator, protocol)
    batches = write_batches(job.store, job.attempt.path, jobs.select(CRYSTAL_COLUMNS), settings.batch_size)
    progress.expect(len(jobs), "crystals")

    def build(pipeline: beam.Pipeline) -> None:
        evaluate = EvaluateBatch(root, settings.evaluator, settings.relaxation(), protocol_json(evaluator.protocol))
        done = evaluate_batches(pipeline, batches, evaluate, network_hints(job.flags))
        _write(pipeline, job, batches, done, [])

    return run_job(job, build, {"batches": batches.number})


def _take_results(job: Job) -> Manifest:
    """What is there of this round's jobs and of earlier ones without a usable result yet."""
    name, dft = job.config.evaluation.evaluator, job.config.dft
    jobs = open_jobs(job, name)
    if job.run_jobs:
        run_waiting(job.store, name, dft, jobs["id"].to_pylist(), jobs["numbers"])
    size = job.config.evaluation.batch_size
    batches = write_batches(job.store, job.attempt.path, jobs.select(CRYSTAL_COLUMNS), size)

    def build(pipeline: beam.Pipeline) -> None:
        done = read_jobs(pipeline, batches, ReadJobs(job.store.root, name, dft))
        _write(pipeline, job, batches, done, [done[tags.DEAD]])

    late = int(pc.sum(pc.invert(pc.is_in(jobs["id"], proposals(job.store.root, job.round)["id"]))).as_py() or 0)
    return run_job(job, build, {"jobs_of_earlier_rounds": late})


def open_jobs(job: Job, evaluator: str) -> pa.Table:
    """This round's jobs, those of earlier rounds that have had no result, and failed ones that converged since."""
    statuses = committed_statuses(job.store, job.round - 1)
    asked = engine_jobs(job.store, evaluator)
    jobs = all_proposals(job.store, job.round)
    jobs = jobs.filter(pc.equal(jobs["evaluator"], evaluator))
    open_ = [
        id_ not in statuses or (statuses[id_] != DONE and asked.state(id_) is State.CONVERGED)
        for id_ in jobs["id"].to_pylist()
    ]
    return jobs.filter(pa.array(open_, pa.bool_()))


def _write(pipeline: beam.Pipeline, job: Job, batches: Batches, done: beam.pvalue.DoOutputsTuple, dead: list) -> None:
    root, path = job.store.root, job.attempt.path
    files = [
        pipeline | "Asked" >> FromDriver([batches.file]),
        done.results | "Write" >> WriteTable(root, path, "results", RESULT_SCHEMA, ("id",), 1),
        done[FRAMES]
        | "WriteFrames" >> WriteTable(root, path, "frames", FRAME_SCHEMA, ("job", "step"), job.config.part_files),
    ]
    pipeline | "Manifest" >> WriteManifest(root, path, "results", files, [done[tags.COUNTS]], dead)
