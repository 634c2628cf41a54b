"""Analyses as a store keeps them.

STORE/analysis/NAME.json       summary, notes, the round of the hull it was made of, and the names of its tables
STORE/analysis/NAME-TABLE.parquet
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gnome_core.analysis.result import Analysis
from pipelines.store.store import Store

FOLDER = "analysis"


@dataclass(frozen=True)
class StoredAnalysis:
    """An analysis that `gnome analyse` kept in the store, and the round whose hull it was made of."""

    analysis: Analysis
    round: int


def keep_analysis(store: Store, analysis: Analysis, round_: int) -> None:
    """Write an analysis of that round's hull into the store."""
    for table, rows in analysis.tables.items():
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        store.storage.write(f"{FOLDER}/{analysis.name}-{table}.parquet", sink.getvalue().to_pybytes())
    document = {
        "title": analysis.title,
        "round": round_,
        "summary": dict(analysis.summary),
        "notes": list(analysis.notes),
        "tables": list(analysis.tables),
    }
    # Last: an analysis exists once this does.
    store.storage.write(f"{FOLDER}/{analysis.name}.json", (json.dumps(document, indent=1) + "\n").encode())


def load_analyses(store: Store, names: Iterable[str]) -> list[StoredAnalysis]:
    """Those of the named analyses that the store holds, in that order."""
    kept = []
    for name in names:
        if not store.storage.exists(f"{FOLDER}/{name}.json"):
            continue
        document = json.loads(store.storage.read(f"{FOLDER}/{name}.json"))
        tables = {
            table: pq.read_table(pa.BufferReader(store.storage.read(f"{FOLDER}/{name}-{table}.parquet")))
            for table in document["tables"]
        }
        analysis = Analysis(name, document["title"], tables, document["summary"], tuple(document["notes"]))
        kept.append(StoredAnalysis(analysis, document["round"]))
    return kept
