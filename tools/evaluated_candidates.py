"""Write the evaluated candidates of stores into the package, in the geometry they were proposed with:

    python tools/evaluated_candidates.py STORE...

The stores are of rounds on the embedded evaluator with `holdout = "holdout-v1"`; those that come with the package were
made by examples/evaluated.toml (gnome_core/data/MODEL_CARD.md). Nothing of a withheld system is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import gnome_core.data
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.split import is_withheld
from pipelines.reading.committed import proposed_entries
from pipelines.store.store import Store

DIGITS = 5  # of cells and coordinates: 1e-5 Å
FILE = Path(gnome_core.data.__path__[0], "evaluated.parquet")


def candidates(store: Store) -> pa.Table:
    """ENTRY_SCHEMA, ids from the jobs; who proposed them is left out."""
    last = max(round_ for round_ in store.rounds() if store.commit(round_, "ingest"))
    found = pa.concat_tables(proposed_entries(store, last))
    columns = {name: found[name] for name in ENTRY_SCHEMA.names}
    columns |= {
        "id": pa.array([f"candidate-{job[:12]}" for job in found["job"].to_pylist()]),
        "source": pa.array(["candidate"] * len(found)),
        "round": pa.array(np.zeros(len(found), np.int32)),
        "parent": pa.nulls(len(found), pa.string()),
        "job": pa.nulls(len(found), pa.string()),
    }
    for name in ("lattice", "frac_coords"):
        lists = found[name].combine_chunks()
        columns[name] = pa.ListArray.from_arrays(lists.offsets, pa.array(lists.values.to_numpy().round(DIGITS)))
    return pa.table(columns, schema=ENTRY_SCHEMA)


def main(roots: list[str]) -> None:
    found = pa.concat_tables([candidates(Store(root)) for root in roots])
    _, first = np.unique(np.array(found["id"].to_pylist(), object).astype(str), return_index=True)
    found = found.take(pa.array(first))
    kept = found.filter(pa.array([not is_withheld(system) for system in found["chemsys"].to_pylist()]))
    pq.write_table(kept, FILE, compression="zstd", compression_level=19, use_byte_stream_split=["e_form_per_atom"])
    size = FILE.stat().st_size / 2**20
    print(f"{FILE}: {len(kept)} candidates, {len(found) - len(kept)} of withheld systems left out, {size:.1f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
