"""train: all entries so far -> the next ensemble, each member an element of its own."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from pipelines import progress, tags
from pipelines.config import derived_seed
from pipelines.digests import json_digest
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import WriteTable
from pipelines.members import member_paths
from pipelines.round import Job
from pipelines.schemas import MEMBER_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.train import FILES, TrainMember, TrainTask


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config
    n_members, seed = config.scoring.members, derived_seed(config, "train", job.round)
    earlier: list[str | None] = []
    if job.round and config.training.init == "fine_tune":
        earlier += member_paths(job.store, job.input("train"))
    # A member that the last round did not have starts from nothing.
    tasks = [TrainTask(k, seed, earlier[k] if k < len(earlier) else None) for k in range(n_members)]
    inputs = json_digest({key: commit.digest for key, commit in job.inputs.items()})
    training = config.training.of_round(job.round)
    progress.expect(n_members * training.epochs, "epochs")
    work = f"rounds/r{job.round:04d}/train/checkpoints/{inputs[:12]}"

    def build(pipeline: beam.Pipeline) -> None:
        trained = (
            pipeline
            | "Members" >> beam.Create(tasks, reshuffle=False).with_output_types(TrainTask)
            | "SpreadMembers" >> beam.Reshuffle()
            | "Train"
            >> beam.ParDo(TrainMember(root, path, work, job.round, config.holdout, config.model, training))
            .with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int], FILES: str})
            .with_outputs(tags.COUNTS, FILES, main="rows")
        )
        rows = trained.rows | "Write" >> WriteTable(root, path, "members", MEMBER_SCHEMA, ("name",), 1)
        pipeline | "Manifest" >> WriteManifest(root, path, "members", [rows, trained[FILES]], [trained[tags.COUNTS]])

    return run_job(job, build, {})
