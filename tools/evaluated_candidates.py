"""Write evaluated candidates into the package, in the geometry they were proposed with:

    python tools/evaluated_candidates.py stores STORE...

    gnome relax evaluated -o RELAXED.parquet --max-steps 150
    python tools/evaluated_candidates.py again RELAXED.parquet...

`stores` adds those of rounds on the embedded evaluator with `holdout = "holdout-v1"` to what the package has on the
same scale; these were made by examples/evaluated.toml (gnome_core/data/MODEL_CARD.md). Nothing of a withheld system is
taken. `again` gives the package's own the energies that another evaluator relaxed them to.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import gnome_core.data
from dft.tables import DONE
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch
from gnome_core.crystals.split import is_withheld
from gnome_core.stability.plausible import implausible
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


def from_stores(roots: list[str]) -> None:
    found = pa.concat_tables([candidates(Store(root)) for root in roots])
    scales = pc.unique(found["scale"])
    if len(scales) != 1:
        sys.exit(f"{', '.join(roots)}: one evaluator's energies are wanted, these are on {scales.to_pylist()}")
    before = pq.read_table(FILE, schema=ENTRY_SCHEMA)
    found = pa.concat_tables([before.filter(pc.equal(before["scale"], scales[0])), found])
    _, first = np.unique(np.array(found["id"].to_pylist(), object).astype(str), return_index=True)
    found = found.take(pa.array(first))
    kept = found.filter(pa.array([not is_withheld(system) for system in found["chemsys"].to_pylist()]))
    write(kept)
    print(f"{len(found) - len(kept)} of {len(found)} are of withheld systems and left out")


def evaluated_again(paths: list[str]) -> None:
    relaxed = pa.concat_tables([pq.read_table(path) for path in paths]).combine_chunks()
    e_form = relaxed["e_form_per_atom"].to_pylist()
    reasons = [
        status if status != DONE else "no_formation_energy" if e is None else implausible(crystal, e)
        for status, e, crystal in zip(relaxed["status"].to_pylist(), e_form, crystals_from_batch(relaxed), strict=True)
    ]
    relaxed = relaxed.filter(pa.array([reason is None for reason in reasons]))
    before = pq.read_table(FILE, schema=ENTRY_SCHEMA)
    after = before.take(pc.index_in(relaxed["id"], before["id"].combine_chunks()))
    for name in ("energy_per_atom", "correction_per_atom", "e_form_per_atom", "scale"):
        field = ENTRY_SCHEMA.field(name)
        column = pc.fill_null(relaxed[name], 0.0) if name == "correction_per_atom" else relaxed[name]
        after = after.set_column(ENTRY_SCHEMA.get_field_index(name), field, column.cast(field.type))
    write(after)
    print(f"{len(before) - len(after)} of {len(before)} left out: {dict(Counter(filter(None, reasons)))}")


def write(entries: pa.Table) -> None:
    pq.write_table(
        entries.sort_by("id"), FILE, compression="zstd", compression_level=19, use_byte_stream_split=["e_form_per_atom"]
    )
    print(f"{FILE}: {len(entries)} candidates, {FILE.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    {"stores": from_stores, "again": evaluated_again}[sys.argv[1]](sys.argv[2:])
