"""Fixed batches of jobs -> results and frames. A finished batch is kept in the store and never computed again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from dft.evaluators.evaluator import Evaluator
from dft.evaluators.make import make_evaluator
from dft.tables import frame_batch, protocol_json, result_batch
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch
from gnome_core.potentials.config import RelaxConfig
from pipelines.beam import coders, progress, tags  # noqa: F401  registers the Arrow coders
from pipelines.beam.metrics import inc, timer
from pipelines.beam.tables import ReadFiles
from pipelines.errors import StoreError, UserError
from pipelines.reading.committed import once_per_process
from pipelines.reading.finished import finish_batch, finished_batch
from pipelines.store.digests import json_digest
from pipelines.store.records import FileStat
from pipelines.store.store import Store

log = logging.getLogger(__name__)

RESULTS, FRAMES = "results", "frames"
CRYSTAL_COLUMNS = tuple(field.name for field in CRYSTAL_FIELDS)


@dataclass(frozen=True)
class Batches:
    """Jobs in a file of the attempt, a row group a batch: workers read there what they are to evaluate.

    file: columns of CRYSTAL_FIELDS (id = job digest) among others. size: crystals of a batch.
    """

    root: str
    file: FileStat
    size: int

    @property
    def number(self) -> int:
        return -(-self.file.rows // self.size)

    def read(self, columns: Sequence[str] = CRYSTAL_COLUMNS, at_least: int = 1) -> ReadFiles:
        """The batches, or so many together that they hold `at_least` rows."""
        return ReadFiles(self.root, [self.file], columns, self.size, -(-at_least // self.size))


def write_batches(store: Store, path: str, jobs: pa.Table, size: int) -> Batches:
    """Jobs in batches of `size`, by number of sites and id: what a batch holds depends on the jobs alone.

    Crystals of like size share a batch, which wastes little on padding. path: store-relative folder of the attempt.
    """
    columns = jobs.append_column("n_sites", pc.list_value_length(jobs["numbers"]))
    order = pc.sort_indices(columns, [("n_sites", "ascending"), ("id", "ascending")])
    return Batches(store.root, store.write_table(f"{path}/asked.parquet", "asked", jobs.take(order), size), size)


@once_per_process
def evaluator_of_process(name: str, config: RelaxConfig, protocol: str | None = None) -> Evaluator:
    """The evaluator, kept for this process. Raises UserError if its protocol (canonical JSON) is no longer this one."""
    evaluator = make_evaluator(name, config)
    if protocol is not None:
        check_protocol(evaluator, protocol)
    return evaluator


def check_protocol(evaluator: Evaluator, protocol: str) -> None:
    """Raise UserError unless an evaluation now is the one that jobs of this protocol (canonical JSON) ask for."""
    now = protocol_json(evaluator.protocol)
    if now != protocol:
        before, after = json.loads(protocol), json.loads(now)
        changed = ", ".join(sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k)))
        raise UserError(
            f"{evaluator.name} is not what the jobs were made for: its {changed} changed since. Put back what it was "
            "then, or give the round up (`gnome round drop`); a retrained potential wants a file of its own"
        )


def batches_of(evaluator: str) -> str:
    """What the finished batches of an evaluator are filed under; job digests tell apart what shares it."""
    return evaluator.partition(":")[0]


@beam.typehints.with_output_types(pa.RecordBatch)
class EvaluateBatch(beam.DoFn):
    """A batch of jobs (CRYSTAL_FIELDS, id = job digest) -> its results; its frames on the tag FRAMES.

    protocol: that of the jobs, which the evaluator must have.
    """

    def __init__(self, root: str, evaluator: str, config: RelaxConfig, protocol: str):
        self.root, self.evaluator, self.config, self.protocol = root, evaluator, config, protocol

    def process(self, batch: pa.RecordBatch) -> Iterator:
        results, frames = self._finished_before(batch) or self._evaluate(batch)
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        yield beam.pvalue.TaggedOutput(FRAMES, frames)
        yield results

    def _name(self, batch: pa.RecordBatch) -> tuple[str, str]:
        # Job digests stand for structure and protocol, so their list stands for all that goes in.
        return batches_of(self.evaluator), json_digest(batch["id"].to_pylist())

    def _finished_before(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch] | None:
        try:
            found = finished_batch(Store(self.root, keep=False), *self._name(batch))
        except StoreError as error:  # a damaged one is as good as none
            log.warning("%s: the batch is evaluated again", error)
            return None
        if found is None:
            return None
        results, frames = _one_batch(found[RESULTS]), _one_batch(found[FRAMES])
        if set(results["scale"].to_pylist()) != {json.loads(self.protocol)["scale"]}:
            log.warning("batch %s is on another scale than its jobs, and is evaluated again", self._name(batch))
            return None
        inc("batches_reused")
        progress.advance(batch.num_rows)
        return results, frames

    def _evaluate(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        evaluator = evaluator_of_process(self.evaluator, self.config, self.protocol)
        crystals, jobs = crystals_from_batch(batch), batch["id"].to_pylist()
        with timer("evaluate"):
            outcomes = evaluator.evaluate(crystals, progress.advance)
        results = result_batch(jobs, crystals, outcomes, evaluator.scale, correct=evaluator.corrections)
        frames = frame_batch(jobs, outcomes, evaluator.scale)
        finish_batch(Store(self.root), *self._name(batch), {RESULTS: results, FRAMES: frames})
        return results, frames


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    """All rows; where all crystals of a batch are refused there are no frames."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def evaluate_batches(
    pipeline: beam.Pipeline, batches: Batches, evaluate: EvaluateBatch, hints: Mapping[str, str]
) -> beam.pvalue.DoOutputsTuple:
    """The batches, spread over workers, through EvaluateBatch: outputs results, FRAMES and COUNTS."""
    return (
        pipeline
        | "Batches" >> batches.read()
        | "Evaluate"
        >> beam.ParDo(evaluate)
        .with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int], FRAMES: pa.RecordBatch})
        .with_resource_hints(**hints)
        .with_outputs(tags.COUNTS, FRAMES, main="results")
    )
