"""What `gnome export` writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.crystals import writers
from gnome_core.stability.reactions import decomposition_reaction, equilibrium_reaction
from pipelines.cli.options import ExportFormat
from pipelines.cli.outputs import check_output, writing
from pipelines.reading.committed import hull_until
from pipelines.reading.entries import measured_entries, new_on_hull, newest_hull
from pipelines.store.store import Store


@dataclass(frozen=True)
class Format:
    """How entries are written in it; the name of the file, or folder, where nobody says one; which of the two."""

    write: Callable[[pa.Table, Path], object]
    name: str
    folder: bool = False


FORMATS: dict[ExportFormat, Format] = {
    "csv": Format(writers.write_csv, "export.csv"),
    "parquet": Format(writers.write_parquet, "export.parquet"),
    "cif": Format(writers.write_cif, "export.cif", folder=True),
    "poscar": Format(writers.write_poscar, "export.poscar", folder=True),
    "extxyz": Format(writers.write_extxyz, "export.extxyz"),
    "optimade": Format(writers.write_optimade, "optimade.json"),
    "pymatgen": Format(writers.write_pymatgen, "entries.json"),
}


def export_entries(store: Store, output: Path, *, stable_only: bool, format: ExportFormat) -> int:
    """Write the entries and return how many."""
    chosen = FORMATS[format]
    check_output(output, folder=chosen.folder)
    entries = measured_entries(store)
    if stable_only:
        entries = new_on_hull(entries)
    corrected = pc.add(entries["energy_per_atom"], entries["correction_per_atom"])
    entries = entries.append_column("corrected_energy_per_atom", corrected)
    entries = entries.append_column("reaction", pa.array(_reactions(store, entries), pa.string()))
    with writing(output):
        chosen.write(entries, output)
    return len(entries)


def _reactions(store: Store, entries: pa.Table) -> list[str]:
    """What each entry decomposes into, or, on the hull, competes with: "2 LiFeO2 -> Fe2O3 + Li2O"."""
    hull = hull_until(store.root, newest_hull(store)[1])
    rows = pc.index_in(entries["id"].combine_chunks(), hull.ids).to_pylist()
    return [
        equilibrium_reaction(hull, row) if on_hull else decomposition_reaction(hull, row)
        for row, on_hull in zip(rows, entries["on_hull"].to_pylist(), strict=True)
    ]
