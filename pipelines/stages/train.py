"""train: all entries so far -> the next ensemble, each member an element of its own, or all in one program."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa

from gnome_core.ensembles.calibration import FILE as CALIBRATION
from gnome_core.ensembles.ensemble import calibrate
from gnome_core.models.members import load_member, model_of
from gnome_core.models.shipped import Framework
from pipelines import progress, tags
from pipelines.config import derived_seed
from pipelines.digests import json_digest
from pipelines.errors import UserError
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import WriteTable
from pipelines.members import local_member, member_addresses, shipped_addresses, weights_of
from pipelines.options import network_hints
from pipelines.round import Job
from pipelines.schemas import MEMBER_SCHEMA
from pipelines.store import FileStat, Manifest
from pipelines.transforms.train import FILES, TrainMembers, TrainTask, labelled


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config
    tasks = [task for framework in config.frameworks for task in _tasks(job, framework)]
    inputs = json_digest({key: commit.digest for key, commit in job.inputs.items()})
    progress.expect(
        sum(len(task.members) * config.ensemble_of(task.framework)[2].of_round(job.round).epochs for task in tasks),
        "epochs",
    )
    work = f"rounds/r{job.round:04d}/train/checkpoints/{inputs[:12]}"

    def build(pipeline: beam.Pipeline) -> None:
        trained = (
            pipeline
            | "Members" >> beam.Create(tasks, reshuffle=False).with_output_types(TrainTask)
            | "SpreadMembers" >> beam.Reshuffle()
            | "Train"
            >> beam.ParDo(TrainMembers(root, path, work, job.round, config))
            .with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int], FILES: str})
            .with_resource_hints(**network_hints(job.flags, exclusive=True))
            .with_outputs(tags.COUNTS, FILES, main="rows")
        )
        by = ("framework", "name")
        rows = trained.rows | "Write" >> WriteTable(root, path, "members", MEMBER_SCHEMA, by, 1)
        pipeline | "Manifest" >> WriteManifest(root, path, "members", [rows, trained[FILES]], [trained[tags.COUNTS]])

    counts = labelled(root, job.round, config, "compositional").counts if config.searches else {}
    manifest = run_job(job, build, dict(counts))
    blobs = [_calibration(job, framework, manifest) for framework in config.frameworks]
    return manifest.model_copy(update={"files": [*manifest.files, *blobs]})


def _calibration(job: Job, framework: Framework, manifest: Manifest) -> FileStat:
    """Calibrate the spread of the members just trained, on what none of them trained on."""
    data, table = labelled(job.store.root, job.round, job.config, framework), weights_of(framework)
    files = sorted(job.store.local_file(stat) for stat in manifest.files if stat.table == table)
    content = calibrate([path for path in files if path.endswith(".npz")], data.graphs, data.e_form, data.is_train)
    return job.store.write_blob(f"{job.attempt.path}/{table}/{CALIBRATION}", table, content)


def _tasks(job: Job, framework: Framework) -> list[TrainTask]:
    n_members, _, training = job.config.ensemble_of(framework)
    purpose = ("train", job.round) if framework == "structural" else ("train", job.round, framework)
    seed, starts = derived_seed(job.config, *purpose), _starts(job, framework)
    groups = [range(n_members)] if training.together else [range(k, k + 1) for k in range(n_members)]
    return [TrainTask(framework, tuple(group), seed, tuple(starts[k % len(starts)] for k in group)) for group in groups]


def _starts(job: Job, framework: Framework) -> Sequence[str | None]:
    """Addresses of the members to start from; further members start from them again. (None,) = from nothing."""
    _, model, training = job.config.ensemble_of(framework)
    if training.starts_fresh(job.round):
        return (None,)
    if job.round:
        return member_addresses(job.store, job.input("train"), framework)
    shipped = shipped_addresses(framework)
    if model_of(model)[1] != load_member(local_member(shipped[0]))[1].network():
        table = "[model]" if framework == "structural" else "[compositional.model]"
        raise UserError(
            f"training.first = pretrained goes with the {table} of the members that come with the package; "
            f'leave {table} as it is, or set training.first = "scratch"'
        )
    return shipped
