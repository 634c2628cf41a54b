"""The combiner behind deduplication, the best structures of a composition, quotas and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tags
from pipelines.coders import TableCoder
from pipelines.io.tables import split_by_bucket

COMPACT_ROWS = 20_000


def top_per_group(rows: pa.Table, group: str | None, k: int, by: Sequence[str]) -> pa.Table:
    """The first k rows of each group in ascending order of `by`, sorted by group; group None = one group of all."""
    keys = ([group] if group else []) + list(by)
    rows = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in keys]))
    if group is None or not len(rows):
        return rows.slice(0, k)
    column = rows[group].combine_chunks()
    starts = np.concatenate([[True], np.array(pc.not_equal(column[1:], column[:-1]))])
    positions = np.arange(len(rows))
    rank = positions - np.maximum.accumulate(np.where(starts, positions, 0))
    return rows.filter(pa.array(rank < k))


class TopPerGroup(beam.CombineFn):
    """Combines record batches into one batch of each group's first k rows; holds little more than that at any time.

    `by` must order rows strictly (end it with a digest), so that the result does not depend on who combines what.
    """

    def __init__(self, group: str | None, k: int, by: Sequence[str]):
        self.group, self.k, self.by = group, k, tuple(by)

    def create_accumulator(self) -> pa.Table | None:
        return None

    def add_input(self, held: pa.Table | None, batch: pa.RecordBatch) -> pa.Table:
        return self.merge_accumulators([held, pa.Table.from_batches([batch])])

    def merge_accumulators(self, accumulators: Iterable[pa.Table | None]) -> pa.Table | None:
        tables = [table for table in accumulators if table is not None]
        if not tables:
            return None
        merged = pa.concat_tables(tables)
        # The first chunk is what the last compaction left; doubling before the next keeps the copying linear.
        settled = merged.column(0).chunk(0)
        return self._top(merged) if merged.num_rows > max(COMPACT_ROWS, 2 * len(settled)) else merged

    def compact(self, held: pa.Table | None) -> pa.Table | None:
        return held if held is None else self._top(held)

    def extract_output(self, held: pa.Table | None) -> pa.RecordBatch:
        assert held is not None
        return self._top(held).combine_chunks().to_batches()[0]

    def _top(self, rows: pa.Table) -> pa.Table:
        return top_per_group(rows, self.group, self.k, self.by).combine_chunks()

    def get_accumulator_coder(self) -> TableCoder:
        return TableCoder()


class KeepTop(beam.PTransform):
    """Batches -> (batches of the kept rows, counts of the others as rejected/<reason>).

    Rows meet by the hash of their group (one bucket for group None); bundles are combined before the shuffle.
    uncounted: a bool column whose true rows are not counted as rejected.
    """

    def __init__(
        self, group: str | None, k: int, by: Sequence[str], reason: str, buckets: int = 16, uncounted: str | None = None
    ):
        super().__init__()
        self.combiner, self.reason, self.buckets, self.uncounted = TopPerGroup(group, k, by), reason, buckets, uncounted

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
