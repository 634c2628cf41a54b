"""A job's last step: what it wrote and what became of its rows, in one MANIFEST.json of the attempt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa

from pipelines.beam import tags
from pipelines.beam.dead_letters import DEAD_SCHEMA
from pipelines.beam.runners import run_pipeline
from pipelines.beam.tables import WriteTable
from pipelines.store.records import Counts, FileStat, Manifest
from pipelines.store.store import MANIFEST, Store

if TYPE_CHECKING:
    from pipelines.rounds.job import Job


class FromDriver(beam.PTransform):
    """FileStat JSON of files that the driver wrote, for a manifest's `files`."""

    def __init__(self, files: Iterable[FileStat]):
        super().__init__()
        self.files = [stat.model_dump_json() for stat in files]

    def expand(self, pipeline):
        return pipeline | beam.Create(self.files).with_output_types(str)


class WriteManifest(beam.PTransform):
    """Apply to a pipeline once all outputs are known.

    files: FileStat JSON of every WriteTable. counts: (counter, n) pairs of every step; `in`, `rejected/<reason>`,
    `dead/<reason>` and `tally/<name>`, which becomes the metric <name>, add up per counter. out_table: the table whose
    rows are the stage's `out`, or those tables. dead: batches of DEAD_SCHEMA, written as table "dead".
    """

    def __init__(
        self,
        root: str,
        path: str,
        out_table: str | tuple[str, ...],
        files: Sequence[beam.PCollection],
        counts: Sequence[beam.PCollection],
        dead: Sequence[beam.PCollection] = (),
    ):
        super().__init__()
        self.root, self.path = root, path
        self.out_tables = (out_table,) if isinstance(out_table, str) else out_table
        self.files, self.counts, self.dead = list(files), list(counts), list(dead)

    def expand(self, pipeline):
        files = list(self.files)
        if self.dead:
            letters = (*self.dead,) | "Dead" >> beam.Flatten(pipeline=pipeline.pipeline)
            writer = WriteTable(self.root, self.path, "dead", DEAD_SCHEMA, ("key", "reason"), n_parts=1)
            files.append(letters | "HasRows" >> beam.Filter(_has_rows).with_output_types(pa.RecordBatch) | writer)
        stats = (*files,) | "Files" >> beam.Flatten(pipeline=pipeline.pipeline)
        totals = (
            (*self.counts,)
            | "Counts" >> beam.Flatten(pipeline=pipeline.pipeline)
            | beam.CombinePerKey(sum).with_output_types(tuple[str, int])
        )
        return (
            pipeline
            | beam.Create([None])
            | "Write"
            >> beam.Map(
                _write, self.root, self.path, self.out_tables, beam.pvalue.AsList(stats), beam.pvalue.AsList(totals)
            )
        )


def _has_rows(batch: pa.RecordBatch) -> bool:
    return batch.num_rows > 0


def _write(
    _, root: str, path: str, out_tables: tuple[str, ...], files: Iterable[str], totals: Iterable[tuple[str, int]]
) -> None:
    stats = sorted((FileStat.model_validate_json(text) for text in files), key=lambda stat: stat.path)
    n_out = sum(stat.rows for stat in stats if stat.table in out_tables)
    sums = dict(totals)
    tallies = {name.removeprefix(tags.tally("")): n for name, n in sums.items() if name.startswith(tags.tally(""))}
    manifest = Manifest(files=stats, counts=counts_of(sums, n_out), metrics=dict(sorted(tallies.items())))
    Store(root).storage.write(f"{path}/{MANIFEST}", manifest.model_dump_json(by_alias=True).encode())


def counts_of(totals: dict[str, int], n_out: int) -> Counts:
    """Counters of a job -> Counts. Reasons whose rows cancel out (all kept) are left out."""
    named = {name: {} for name in ("rejected", "dead")}
    for counter, n in sorted(totals.items()):
        kind, _, reason = counter.partition("/")
        if kind in named and n:
            named[kind][reason] = n
    return Counts(n_in=totals.get(tags.IN, 0), n_out=n_out, rejected=named["rejected"], dead=named["dead"])


def read_manifest(store: Store, path: str) -> Manifest:
    return Manifest.model_validate(json.loads(store.storage.read(f"{path}/{MANIFEST}")))


def run_job(job: Job, build: Callable[[beam.Pipeline], None], metrics: dict[str, float | int | str]) -> Manifest:
    """Run a stage's graph and return the manifest it wrote, with Beam's counters among its metrics.

    Where the job of a launched attempt has written its manifest before, nothing is run.
    """
    written = job.store.storage.exists(f"{job.attempt.path}/{MANIFEST}")
    counters = {} if written else run_pipeline(job.flags, build)
    manifest = read_manifest(job.store, job.attempt.path)
    return manifest.model_copy(update={"metrics": {**manifest.metrics, **metrics, **counters}})
