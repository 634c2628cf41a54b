"""Distinct rows, a uniform sample of at most so many, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam import coders

from pipelines.beam import tags
from pipelines.beam.coders import TableCoder

DRAW, COPIES = "draw", "copies"

LOOSE_ROWS = 20_000  # rows that wait, at least, before they are sorted in


class SmallestDraws(beam.CombineFn):
    """Combines record batches into one of the `limit` distinct rows with the smallest draws.

    Batches have `draw`, a hash of `digest`; rows with equal digests are one row. Adds `copies`, how many there were.
    That number is exact whoever combines what: a row that stays to the end was among the smallest at all times.

    An accumulator is a list of tables and how many rows wait in all but the first. The first is settled: distinct,
    ascending, at most `limit` rows.
    """

    def __init__(self, limit: int):
        self.limit = limit

    def create_accumulator(self) -> tuple[list[pa.Table], int]:
        return [], 0

    def add_input(self, accumulator: tuple[list[pa.Table], int], batch: pa.RecordBatch) -> tuple[list[pa.Table], int]:
        held, waiting = accumulator  # changed in place: there are many small batches
        rows = pa.Table.from_batches([batch]).append_column(COPIES, pa.repeat(pa.scalar(1, pa.int64()), len(batch)))
        if held and len(held[0]) == self.limit:
            rows = rows.filter(pc.less_equal(rows[DRAW], held[0][DRAW][-1]))
        held += [rows] if held else [rows.slice(0, 0), rows]
        waiting += len(rows)
        return self.compact((held, waiting)) if waiting >= max(LOOSE_ROWS, len(held[0])) else (held, waiting)

    def merge_accumulators(self, accumulators: Iterable[tuple[list[pa.Table], int]]) -> tuple[list[pa.Table], int]:
        return self.compact(([table for held, _ in accumulators for table in held], 0))

    def compact(self, accumulator: tuple[list[pa.Table], int]) -> tuple[list[pa.Table], int]:
        held, _ = accumulator
        return ([self._settled(pa.concat_tables(held))] if held else []), 0

    def extract_output(self, accumulator: tuple[list[pa.Table], int]) -> pa.RecordBatch:
        held, _ = self.compact(accumulator)
        return held[0].to_batches()[0]

    def _settled(self, rows: pa.Table) -> pa.Table:
        rows = rows.take(pc.sort_indices(rows, [(DRAW, "ascending"), ("digest", "ascending")])).combine_chunks()
        if not len(rows):
            return rows
        digest = rows["digest"].chunk(0)
        starts = np.flatnonzero(np.concatenate([[True], np.array(pc.not_equal(digest[1:], digest[:-1]))]))
        copies = np.add.reduceat(rows[COPIES].to_numpy(), starts)[: self.limit]
        rows = rows.take(pa.array(starts[: self.limit]))
        return rows.set_column(rows.schema.get_field_index(COPIES), COPIES, pa.array(copies)).combine_chunks()

    def get_accumulator_coder(self) -> coders.Coder:
        return coders.TupleCoder((coders.ListCoder(TableCoder()), coders.VarIntCoder()))


class SampleDistinct(beam.PTransform):
    """Batches with `digest` and `draw` -> (batches of the kept rows with `copies`, counts of the others).

    At most `limit` rows in all are kept, an equal share in each of `buckets`. Copies of kept rows count as
    rejected/duplicate, all other rows as rejected/over_limit.
    """

    def __init__(self, limit: int, buckets: int):
        super().__init__()
        self.share, self.buckets = -(-limit // buckets), buckets

    def expand(self, batches):
        kept = (
            batches
            | "Split" >> beam.FlatMap(_by_draw, self.buckets).with_output_types(tuple[int, pa.RecordBatch])
            | "Smallest" >> beam.CombinePerKey(SmallestDraws(self.share)).with_output_types(tuple[int, pa.RecordBatch])
            | "Rows" >> beam.Values().with_output_types(pa.RecordBatch)
        )
        counts = [
            batches | "Before" >> beam.Map(_count_all).with_output_types(tuple[str, int]),
            kept | "After" >> beam.FlatMap(_count_kept).with_output_types(tuple[str, int]),
        ]
        return kept, counts


def _by_draw(batch: pa.RecordBatch, buckets: int) -> Iterable[tuple[int, pa.RecordBatch]]:
    bucket = batch[DRAW].to_numpy() % np.uint64(buckets)
    order = np.argsort(bucket, kind="stable")
    keys, first = np.unique(bucket[order], return_index=True)
    for key, rows in zip(keys.tolist(), np.split(order, first[1:]), strict=True):
        yield key, batch.take(pa.array(rows))


def _count_all(batch: pa.RecordBatch) -> tuple[str, int]:
    return tags.rejected("over_limit"), batch.num_rows


def _count_kept(batch: pa.RecordBatch) -> list[tuple[str, int]]:
    copies = pc.sum(batch[COPIES]).as_py() or 0
    return [(tags.rejected("over_limit"), -copies), (tags.rejected("duplicate"), copies - batch.num_rows)]
