"""Batches that workers have finished, which a round that is resumed does not compute again.

STORE/jobs/EVALUATOR/BATCH.TABLE.parquet
STORE/jobs/EVALUATOR/BATCH.json           the files of its tables; sealed, and written last
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa

from pipelines.store.records import FileStat
from pipelines.store.seals import sealed, unsealed
from pipelines.store.store import Store

FOLDER = "jobs"


def finish_batch(store: Store, evaluator: str, batch: str, tables: Mapping[str, pa.RecordBatch]) -> None:
    """Keep a batch's tables; a kill meanwhile leaves it unfinished."""
    path = f"{FOLDER}/{evaluator}/{batch}"
    stats = [
        store.write_table(f"{path}.{table}.parquet", table, pa.Table.from_batches([rows]))
        for table, rows in tables.items()
    ]
    store.storage.write(f"{path}.json", sealed({"files": [stat.model_dump(mode="json") for stat in stats]}))


def finished_batch(
    store: Store, evaluator: str, batch: str, tables: Collection[str] | None = None
) -> dict[str, pa.Table] | None:
    """Table -> its rows, of those asked for or all; None where the batch is not finished. Raises StoreError for
    damage."""
    path = f"{FOLDER}/{evaluator}/{batch}.json"
    try:
        document = unsealed(store.storage.read(path), f"{store.root}/{path}", store.root)
    except FileNotFoundError:
        return None
    stats = [FileStat.model_validate(stat) for stat in document["files"]]
    wanted = [stat for stat in stats if tables is None or stat.table in tables]
    return {stat.table: store.open_parquet(stat).read() for stat in wanted}


def finished_batches(store: Store) -> Iterator[tuple[str, str]]:
    """(evaluator, batch) of all."""
    for evaluator in store.storage.children(FOLDER):
        for name in store.storage.children(f"{FOLDER}/{evaluator}"):
            if name.endswith(".json"):
                yield evaluator, name.removesuffix(".json")
