"""The combiner behind deduplication, the best structures of a composition, quotas and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.beam import tags
from pipelines.beam.coders import TableCoder
from pipelines.beam.tables import split_by_bucket

COMPACT_ROWS = 20_000


class Limit(NamedTuple):
    """A column of costs and how much of it may be spent."""

    column: str
    budget: float


def top_per_group(rows: pa.Table, group: str | None, k: int, by: Sequence[str], limit: Limit | None = None) -> pa.Table:
    """The first k rows of each group in ascending order of `by`, sorted by group; group None = one group of all.

    limit: of the one group, only the rows before the first whose cost no longer fits.
    """
    keys = ([group] if group else []) + list(by)
    rows = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in keys]))
    if group is None or not len(rows):
        rows = rows.slice(0, k)
        if limit is not None:
            rows = rows.filter(pa.array(np.cumsum(rows[limit.column].to_numpy()) <= limit.budget))
        return rows
    column = rows[group].combine_chunks()
    starts = np.concatenate([[True], np.array(pc.not_equal(column[1:], column[:-1]))])
    positions = np.arange(len(rows))
    rank = positions - np.maximum.accumulate(np.where(starts, positions, 0))
    return rows.filter(pa.array(rank < k))


class TopPerGroup(beam.CombineFn):
    """Combines record batches into one batch of each group's first k rows; holds little more than that at any time.

    `by` must order rows strictly (end it with a digest), so that the result does not depend on who combines what.
    """

    def __init__(self, group: str | None, k: int, by: Sequence[str], limit: Limit | None = None):
        self.group, self.k, self.by, self.limit = group, k, tuple(by), limit

    def create_accumulator(self) -> pa.Table | None:
        return None

    def add_input(self, held: pa.Table | None, batch: pa.RecordBatch) -> pa.Table:
        return self.merge_accumulators([held, pa.Table.from_batches([batch])])

    def merge_accumulators(self, accumulators: Iterable[pa.Table | None]) -> pa.Table | None:
        tables = [table for table in accumulators if table is not None]
        if not tables:
            return None
        merged = pa.concat_tables(tables)
        if merged.num_rows <= COMPACT_ROWS:
            return merged
        # The first chunk is what the last compaction left; doubling before the next keeps the copying linear.
        settled = merged.column(0).chunk(0)
        return self._top(merged) if merged.num_rows > 2 * len(settled) else merged

    def compact(self, held: pa.Table | None) -> pa.Table | None:
        return held if held is None else self._top(held)

    def extract_output(self, held: pa.Table | None) -> pa.RecordBatch:
        assert held is not None
        rows = self._top(held)
        return rows.to_batches()[0] if len(rows) else pa.RecordBatch.from_pylist([], schema=rows.schema)

    def _top(self, rows: pa.Table) -> pa.Table:
        return top_per_group(rows, self.group, self.k, self.by, self.limit).combine_chunks()

    def get_accumulator_coder(self) -> TableCoder:
        return TableCoder()


class KeepTop(beam.PTransform):
    """Batches -> (batches of the kept rows, counts of the others as rejected/<reason>).

    Rows meet by the hash of their group (one bucket for group None); bundles are combined before the shuffle.
    uncounted: a bool column whose true rows are not counted as rejected.
    """

    def __init__(
        self,
        group: str | None,
        k: int,
        by: Sequence[str],
        reason: str,
        buckets: int = 16,
        uncounted: str | None = None,
        limit: Limit | None = None,
    ):
        super().__init__()
        self.combiner = TopPerGroup(group, k, by, limit)
        self.reason, self.buckets, self.uncounted = reason, buckets, uncounted

    def expand(self, batches):
        keyed = batches | "Split" >> beam.FlatMap(_keyed, self.combiner.group, self.buckets).with_output_types(
            tuple[int, pa.RecordBatch]
        )
        kept = (
            keyed
            | "Top" >> beam.CombinePerKey(self.combiner).with_output_types(tuple[int, pa.RecordBatch])
            | "Rows" >> beam.Values().with_output_types(pa.RecordBatch)
        )
        counts = [
            rows | label >> beam.Map(_count, self.reason, sign, self.uncounted).with_output_types(tuple[str, int])
            for rows, label, sign in ((batches, "Before", 1), (kept, "After", -1))
        ]
        return kept, counts


def _keyed(batch: pa.RecordBatch, group: str | None, buckets: int) -> Iterable[tuple[int, pa.RecordBatch]]:
    if not batch.num_rows:
        return []
    return [(0, batch)] if group is None else split_by_bucket(batch, group, buckets)


def _count(batch: pa.RecordBatch, reason: str, sign: int, uncounted: str | None) -> tuple[str, int]:
    return tags.rejected(reason), sign * counted_rows(batch, uncounted)


def counted_rows(batch: pa.RecordBatch, uncounted: str | None) -> int:
    """Rows of the batch, leaving out those where the bool column `uncounted` is true."""
    return batch.num_rows - (pc.sum(batch[uncounted]).as_py() or 0 if uncounted else 0)
