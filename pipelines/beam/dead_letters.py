"""Dead letters: rows that a stage could not process, kept with the reason and the row itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import apache_beam as beam
import pyarrow as pa

from pipelines.beam import tags
from pipelines.beam.coders import RecordBatchCoder
from pipelines.store.records import FileStat
from pipelines.store.store import Store

log = logging.getLogger(__name__)

DEAD_SCHEMA = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),  # the row's id or digest
        pa.field("reason", pa.string(), nullable=False),  # short snake_case name; commits count by it
        pa.field("message", pa.string(), nullable=False),  # at most LONGEST characters
        pa.field("payload", pa.binary(), nullable=False),  # the row as Arrow IPC, or a reader's raw bytes
    ]
)

LONGEST = 2_000  # characters of a message

T = TypeVar("T")
R = TypeVar("R")


class DeadLetter(NamedTuple):
    stage: str
    key: str
    reason: str
    message: str
    payload: bytes


def dead_letter(stage: str, key: str, error: Exception, row: pa.RecordBatch) -> DeadLetter:
    """The letter of a one-row batch that raised `error`."""
    log.debug("dead letter %s in %s", key, stage, exc_info=error)
    return DeadLetter(stage, key, reason_of(error), str(error), RecordBatchCoder().encode(row))


def reason_of(error: Exception) -> str:
    """The error's own `reason` where that is a short name (InvalidCrystal and its like), else its class name."""
    reason = str(getattr(error, "reason", ""))
    return reason if reason.isidentifier() else type(error).__name__


def as_dead(letters: Sequence[DeadLetter]) -> Iterator[beam.pvalue.TaggedOutput]:
    """What a step says of the rows that it could not process: their letters, and how many have which reason."""
    if letters:
        yield beam.pvalue.TaggedOutput(tags.DEAD, dead_letter_batch(letters))
    for reason, n in Counter(letter.reason for letter in letters).items():
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.dead(reason), n))


def write_letters(store: Store, path: str, letters: Sequence[DeadLetter]) -> list[FileStat]:
    """A file of table "dead" from the driver: a letter holds up to 1 MiB, which no graph of a pipeline should carry.

    path: store-relative folder of the attempt. Without letters there is no file.
    """
    if not letters:
        return []
    rows = pa.Table.from_batches([dead_letter_batch(letters)])
    return [store.write_table(f"{path}/dead/as-read.parquet", "dead", rows)]


def dead_letter_batch(letters: Iterable[DeadLetter]) -> pa.RecordBatch:
    rows = [letter._replace(message=letter.message[:LONGEST])._asdict() for letter in letters]
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_SCHEMA)
