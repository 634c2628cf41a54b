"""train: all entries so far -> the next ensemble, each member an element of its own, or all in one program."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa

from gnome_core.models.registry import load_member, model_of
from pipelines import progress, tags
from pipelines.config import derived_seed
from pipelines.digests import json_digest
from pipelines.errors import UserError
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import WriteTable
from pipelines.members import local_member, member_addresses, shipped_addresses
from pipelines.options import network_hints
from pipelines.round import Job
from pipelines.schemas import MEMBER_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.train import FILES, TrainMembers, TrainTask


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config
    n_members, seed = config.scoring.members, derived_seed(config, "train", job.round)
    starts = _starts(job)
    groups = [range(n_members)] if config.training.together else [range(k, k + 1) for k in range(n_members)]
    tasks = [TrainTask(tuple(group), seed, tuple(starts[k % len(starts)] for k in group)) for group in groups]
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
            >> beam.ParDo(TrainMembers(root, path, work, job.round, config.holdout, config.model, training))
            .with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int], FILES: str})
            .with_resource_hints(**network_hints(job.flags, exclusive=True))
            .with_outputs(tags.COUNTS, FILES, main="rows")
        )
        rows = trained.rows | "Write" >> WriteTable(root, path, "members", MEMBER_SCHEMA, ("name",), 1)
        pipeline | "Manifest" >> WriteManifest(root, path, "members", [rows, trained[FILES]], [trained[tags.COUNTS]])

    return run_job(job, build, {})


def _starts(job: Job) -> Sequence[str | None]:
    """Addresses of the members to start from; further members start from them again. (None,) = from nothing."""
    if job.config.training.starts_fresh(job.round):
        return (None,)
    if job.round:
        return member_addresses(job.store, job.input("train"))
    shipped = shipped_addresses("structural")
    if model_of(job.config.model)[1] != load_member(local_member(shipped[0]))[1].network():
        raise UserError(
            "training.first = pretrained goes with the [model] of the members that come with the package; "
            'leave [model] as it is, or set training.first = "scratch"'
        )
    return shipped
