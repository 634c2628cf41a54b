"""Analyses as a store keeps them.

STORE/analysis/NAME.json                   summary, notes, the round of its hull, its tables' files; sealed
STORE/analysis/NAME/TABLE-CHECKSUM.parquet
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.analysis.confirmation import PREFIX
from gnome_core.analysis.result import Analysis
from pipelines.errors import StoreError
from pipelines.store.records import FileStat
from pipelines.store.seals import sealed, unsealed
from pipelines.store.store import Store

FOLDER = "analysis"


@dataclass(frozen=True)
class StoredAnalysis:
    """An analysis that `gnome analyse` kept in the store, and the round whose hull it was made of."""

    analysis: Analysis
    round: int


def keep_analysis(store: Store, analysis: Analysis, round_: int) -> None:
    """Write an analysis of that round's hull into the store, in place of the one that was there."""
    folder = f"{FOLDER}/{analysis.name}"
    stats = {table: _write_table(store, folder, table, rows) for table, rows in analysis.tables.items()}
    document = {
        "title": analysis.title,
        "round": round_,
        "summary": [list(pair) for pair in analysis.summary.items()],
        "notes": list(analysis.notes),
        "tables": [[table, stat.model_dump(mode="json")] for table, stat in stats.items()],
    }
    # An analysis is what this file says: until it is replaced, the tables of the old one stay.
    store.storage.write(f"{folder}.json", sealed(document))
    for path in store.storage.files(folder).keys() - {stat.path for stat in stats.values()}:
        store.storage.delete(path)


def _write_table(store: Store, folder: str, table: str, rows: pa.Table) -> FileStat:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    return store.write_blob(f"{folder}/{table}-{google_crc32c.value(data):08x}.parquet", table, data)


def load_analysis(store: Store, name: str) -> StoredAnalysis:
    """Raises FileNotFoundError where the store has none of that name, StoreError for one that is not as it was kept."""
    path = f"{FOLDER}/{name}.json"
    document = unsealed(store.storage.read(path), f"{store.root}/{path}", store.root)
    stats = {table: FileStat.model_validate(stat) for table, stat in document["tables"]}
    tables = {table: store.open_parquet(stat).read() for table, stat in stats.items()}
    analysis = Analysis(name, document["title"], tables, dict(document["summary"]), tuple(document["notes"]))
    return StoredAnalysis(analysis, document["round"])


def load_analyses(store: Store, names: Iterable[str]) -> tuple[list[StoredAnalysis], list[str]]:
    """(those of the named analyses that the store holds, in that order; what is wrong with those that are damaged)."""
    kept, damaged = [], []
    there = kept_analyses(store)
    for name in (name for name in names if name in there):
        try:
            kept.append(load_analysis(store, name))
        except StoreError as error:
            what = str(error).partition("; ")[0]
            second = name.startswith(PREFIX)
            anew = (
                f"confirm {store.root} --by {name.removeprefix(PREFIX)}" if second else f"analyse {store.root} {name}"
            )
            damaged.append(f"{what}; {name} is left out, `gnome {anew}` makes it anew")
    return kept, damaged


def kept_analyses(store: Store) -> list[str]:
    """Names of all analyses in the store."""
    return [name.removesuffix(".json") for name in store.storage.children(FOLDER) if name.endswith(".json")]
