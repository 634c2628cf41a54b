"""Dead letters of a store: rows that no stage could use, with the reason and the file and row that they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelines.store.records import FileStat
from pipelines.store.store import Store


class DeadRow(NamedTuple):
    key: str
    reason: str
    message: str


def dead_rows(store: Store, files: Iterable[FileStat]) -> Iterator[DeadRow]:
    """Those of the tables "dead" among the files of a commit or manifest, in the order of files and rows."""
    for stat in sorted(files, key=lambda stat: stat.path):
        if stat.table == "dead":
            for batch in store.open_parquet(stat).iter_batches(columns=list(DeadRow._fields)):
                yield from (DeadRow(**row) for row in batch.to_pylist())
