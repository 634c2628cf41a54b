"""evaluate: jobs -> results and relaxation frames, by the embedded evaluator in the workers."""

from __future__ import annotations

import apache_beam as beam

from dft.jobs import FRAME_SCHEMA, RESULT_SCHEMA
from pipelines import progress, tags
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import WriteTable
from pipelines.resources import proposals
from pipelines.round import Job
from pipelines.store import Manifest
from pipelines.transforms.evaluate import FRAMES, EvaluateBatch, evaluate_batches, fixed_batches


def run(job: Job) -> Manifest:
    root, path, settings = job.store.root, job.attempt.path, job.config.evaluation
    jobs = proposals(root, job.round).select(["id", "lattice", "frac_coords", "numbers"])
    batches = fixed_batches(jobs, settings.batch_size)
    progress.expect(len(jobs), "crystals")

    def build(pipeline: beam.Pipeline) -> None:
        evaluate = EvaluateBatch(root, settings.evaluator, settings.relaxation())
        done = evaluate_batches(pipeline, batches, evaluate)
        results = done.results | "Write" >> WriteTable(root, path, "results", RESULT_SCHEMA, ("id",), 1)
        frames = done[FRAMES] | "WriteFrames" >> WriteTable(
            root, path, "frames", FRAME_SCHEMA, ("job", "step"), job.config.part_files
        )
        pipeline | "Manifest" >> WriteManifest(root, path, "results", [results, frames], [done[tags.COUNTS]])

    return run_job(job, build, {"batches": len(batches)})
