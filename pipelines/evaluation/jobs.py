"""Jobs of first-principles engines: into folders where programs find them, or into a bucket, and back as results and
frames."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dft.config import DftConfig
from dft.engines import make_engine
from dft.jobs.engine import Calculation, Engine, EngineMissing, job_files
from dft.jobs.folders import Job as EngineJob
from dft.jobs.folders import State
from dft.jobs.preflight import Preflight, preflight
from dft.tables import frame_batch, result_batch
from dft.workers import Ended, WorkerDied, run_jobs
from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.selection.cost import dft_cost
from pipelines.beam import coders, progress, tags  # noqa: F401  registers the Arrow coders
from pipelines.beam.dead_letters import as_dead, dead_letter
from pipelines.errors import UserError
from pipelines.evaluation.batches import FRAMES, Batches
from pipelines.evaluation.taken_jobs import run_from_bucket
from pipelines.reading.bucket_jobs import SHARD
from pipelines.reading.committed import once_per_process
from pipelines.reading.engine_jobs import JobsInFolders, engine_jobs, job_folders
from pipelines.store.digests import json_digest
from pipelines.store.store import Store

PENDING = "pending"


@once_per_process
def engine_of_process(name: str, dft: DftConfig) -> Engine:
    return make_engine(name, dft)


@beam.typehints.with_output_types(pa.RecordBatch)
class WriteJobs(beam.DoFn):
    """Batches with JOB_SCHEMA's columns -> the same, once every job has its folder or is in a shard."""

    def __init__(self, root: str, dft: DftConfig):
        self.root, self.dft = root, dft

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for start in range(0, batch.num_rows, SHARD):
            self._write(batch.slice(start, SHARD))
        yield batch

    def _write(self, batch: pa.RecordBatch) -> None:
        name = batch["evaluator"][0].as_py()
        engine, store = engine_of_process(name, self.dft), Store(self.root)
        columns = (batch["id"].to_pylist(), crystals_from_batch(batch), batch["protocol"].to_pylist())
        files = {
            id_: job_files(EngineJob(id_, crystal, name, protocol), engine, self.dft.emit == "flows")
            for id_, crystal, protocol in zip(*columns, strict=True)
        }
        folders = job_folders(store, name)
        if folders is not None and self.dft.emit == "tar":
            folders.pack(json_digest(sorted(files)), files)
        else:
            engine_jobs(store, name).emit(files)


@beam.typehints.with_output_types(pa.RecordBatch)
class ReadJobs(beam.DoFn):
    """Batches with CRYSTAL_FIELDS (id = job digest) -> results; frames on FRAMES; unreadable output on DEAD.

    Jobs that have not ended are rejected as pending: a later round takes them in.
    """

    def __init__(self, root: str, evaluator: str, dft: DftConfig):
        self.root, self.evaluator, self.dft = root, evaluator, dft

    def start_bundle(self) -> None:
        self.jobs = engine_jobs(Store(self.root), self.evaluator)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        engine = engine_of_process(self.evaluator, self.dft)
        self.jobs.fetch(batch["id"].to_pylist())
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        rows, found, letters = [], [], []
        for row, id_ in enumerate(batch["id"].to_pylist()):
            try:
                calculation = self.jobs.read(id_, engine)
            except Exception as error:  # whatever is wrong with one job's files
                letters.append(dead_letter("evaluate", id_, error, batch.slice(row, 1)))
                continue
            if calculation is None:
                yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(PENDING), 1))
            else:
                rows.append(row)
                found.append(calculation)
        yield from as_dead(letters)
        if rows:
            yield from self._tables(batch.take(pa.array(rows)), found, engine.scale)

    def _tables(self, batch: pa.RecordBatch, found: Sequence[Calculation], scale: str) -> Iterator:
        ids = batch["id"].to_pylist()
        frames = frame_batch(ids, [c.outcome for c in found], scale, found)
        yield beam.pvalue.TaggedOutput(FRAMES, frames)
        yield result_batch(ids, crystals_from_batch(batch), [c.outcome for c in found], scale, found)


def read_jobs(pipeline: beam.Pipeline, batches: Batches, read: ReadJobs) -> beam.pvalue.DoOutputsTuple:
    """The batches through ReadJobs: outputs results, FRAMES, COUNTS and DEAD."""
    return (
        pipeline
        | "Batches" >> batches.read()
        | "Read"
        >> beam.ParDo(read)
        .with_output_types(pa.RecordBatch, **tags.HINTS, **{FRAMES: pa.RecordBatch})
        .with_outputs(tags.COUNTS, tags.DEAD, FRAMES, main="results")
    )


# In the driver, before and after the pipelines


def check_library(evaluator: str, dft: DftConfig, elements: Sequence[int]) -> Preflight:
    """What the engine's library of potentials has for these elements; says on stderr what it lacks."""
    checked = preflight(make_engine(evaluator, dft), elements)
    for message in checked.messages():
        print(f"gnome: {message}", file=sys.stderr)
    return checked


def run_waiting(
    store: Store, evaluator: str, dft: DftConfig, ids: Sequence[str], numbers: Sequence[np.ndarray] | pa.ChunkedArray
) -> None:
    """Run those of the jobs that wait or are stale on this machine, in this order. numbers: the atomic numbers of each
    job's crystal. Raises UserError where the engine is not there."""
    jobs = engine_jobs(store, evaluator)
    if isinstance(jobs, JobsInFolders):
        jobs.folders.unpack()
    waiting = [id_ for id_ in ids if jobs.state(id_) in (State.EMITTED, State.TAKEN, State.STALE)]
    # The dearest of a few takes longer than all others.
    costs = dict(zip(ids, dft_cost(atom_counts(numbers)).tolist(), strict=True))
    progress.expect(len(ids), "jobs", sum(costs[id_] for id_ in waiting))
    progress.advance(len(ids) - len(waiting), 0.0)
    if not waiting:
        return
    if isinstance(jobs, JobsInFolders):
        events = run_jobs(jobs.folders.root, evaluator, dft, waiting)
    else:
        events = run_from_bucket(store, evaluator, dft, waiting)
    try:
        for event in events:
            if isinstance(event, Ended):
                progress.advance(1, costs[event.job])
                if event.state is State.FAILED:
                    print(f"gnome: job {event.job[:12]} failed, {event.reason}: {event.message}", file=sys.stderr)
            elif isinstance(event, WorkerDied):
                print(f"gnome: a worker ended with code {event.code}; see {event.log}", file=sys.stderr)
    except EngineMissing as error:
        raise UserError(f"{error}; the jobs wait in {jobs.place}") from None
