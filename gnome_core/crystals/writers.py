"""Tables of entries as CSV, CIF or Parquet files for other programs."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core import spreadsheets
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.files import replacing, sync_file_system, write_file

_ROWS = 256  # of a group: some dozen systems, some ten kilobytes


def write_parquet(table: pa.Table, path: str | Path) -> None:
    """The table as it is (of entries: schema version and units in its metadata), compressed with zstd."""
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


def write_snapshot(entries: pa.Table, path: str | Path) -> None:
    """Entries (ENTRY_SCHEMA) so that those of a few chemical systems are read without the rest: sorted by system, in
    small row groups. Lengths and coordinates keep 7 digits, 1e-6 Å: energies do not notice."""
    entries = entries.sort_by([("chemsys", "ascending"), ("id", "ascending")])
    for name in ("lattice", "frac_coords"):
        place = entries.schema.get_field_index(name)
        entries = entries.set_column(place, name, entries[name].cast(pa.list_(pa.float32())))
    with replacing(path) as file:
        pq.write_table(
            entries,
            file,
            compression="zstd",
            compression_level=19,
            row_group_size=_ROWS,
            use_dictionary=["formula", "chemsys", "scale", "source", "energy_kind"],
        )


def write_csv(entries: pa.Table, path: str | Path) -> None:
    """One line an entry: all plain columns, and the number of sites instead of the structure."""
    sites = pc.call_function("list_value_length", [entries["numbers"]])
    plain = [name for name in entries.column_names if not pa.types.is_nested(entries.schema.field(name).type)]
    spreadsheets.write_csv(entries.select(plain).append_column("n_sites", sites), path)


def write_cif(entries: pa.Table, folder: str | Path) -> list[Path]:
    """One file an entry, named by its id, in a folder that is made if needed; the files' paths in row order.

    Characters that some file system refuses become "_"; ids that then coincide get their row number appended.
    """
    from gnome_core.crystals.cif import format_cif

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    taken: set[str] = set()
    for row, (key, crystal) in enumerate(zip(entries["id"].to_pylist(), crystals_from_batch(entries), strict=True)):
        name = re.sub(r"[^A-Za-z0-9_.+-]", "_", key).lstrip(".")[:150] or "entry"
        if name.lower() in taken:  # file systems may ignore case
            name = f"{name}-{row}"
        taken.add(name.lower())
        path = folder / f"{name}.cif"
        write_file(path, format_cif(crystal, key).encode(), durable=False)
        paths.append(path)
    sync_file_system(folder)
    return paths
