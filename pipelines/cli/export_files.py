"""What `gnome export` writes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.stability.reactions import decomposition_reaction, equilibrium_reaction
from pipelines.cli.outputs import check_output, writing
from pipelines.errors import UserError
from pipelines.reading.committed import hull_until
from pipelines.reading.entries import measured_entries, new_on_hull, newest_hull
from pipelines.store.store import Store

EXPORT_FORMATS = ("csv", "cif", "parquet")


def export_entries(store: Store, output: Path, *, stable_only: bool, format: str) -> int:
    """Write the entries and return how many. Raises UserError for an unknown format."""
    from gnome_core.crystals.writers import write_cif, write_csv, write_parquet

    if format not in EXPORT_FORMATS:
        raise UserError(f"--format {format}: must be one of {', '.join(EXPORT_FORMATS)}")
    check_output(output, folder=format == "cif")
    entries = measured_entries(store)
    if stable_only:
        entries = new_on_hull(entries)
    corrected = pc.add(entries["energy_per_atom"], entries["correction_per_atom"])
    entries = entries.append_column("corrected_energy_per_atom", corrected)
    entries = entries.append_column("reaction", pa.array(_reactions(store, entries), pa.string()))
    with writing(output):
        {"csv": write_csv, "cif": write_cif, "parquet": write_parquet}[format](entries, output)
    return len(entries)


def _reactions(store: Store, entries: pa.Table) -> list[str]:
    """What each entry decomposes into, or, on the hull, competes with: "2 LiFeO2 -> Fe2O3 + Li2O"."""
    hull = hull_until(store.root, newest_hull(store)[1])
    rows = pc.index_in(entries["id"].combine_chunks(), hull.ids).to_pylist()
    return [
        equilibrium_reaction(hull, row) if on_hull else decomposition_reaction(hull, row)
        for row, on_hull in zip(rows, entries["on_hull"].to_pylist(), strict=True)
    ]
