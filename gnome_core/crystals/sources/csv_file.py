"""Crystals of a CSV file with a column of structures: text of a CIF, of a POSCAR or of pymatgen's JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from gnome_core.crystals.entries import Entry, Rejected, SourceError
from gnome_core.crystals.sources.rows import STRUCTURES, Columns, read_row
from gnome_core.crystals.sources.source_file import SourceFile, numbered, text_of
from gnome_core.spreadsheets import unmarked_text

_CELL = 1 << 26  # characters of a cell: csv's own limit is shorter than some CIF files


def read_csv(file: SourceFile) -> Iterator[Entry | Rejected]:
    """Rows with a column of `rows.STRUCTURES`. Raises SourceError where there is none."""
    csv.field_size_limit(_CELL)
    row = -1
    with text_of(file, newline="") as text:
        rows = csv.DictReader(text)
        try:
            names = list(rows.fieldnames or ())
            if Columns.of(names).structure is None:
                kinds = ", ".join(STRUCTURES)
                message = f"it has no column of structures ({kinds}), nor a column formula for compositions: {names}"
                raise SourceError(f"{file.where}: {message}")
            for row, key, cells in numbered(file.key, rows):
                yield _read(cells, names, f"{file.where}, row {row}", key)
        except csv.Error as error:
            where = f"{file.where}, row {row + 1}"
            yield Rejected(
                f"{file.key}-{row + 1}", "unreadable_file", f"{where}: {error}; what follows is not read", b""
            )


def _read(cells: dict, names: list[str], where: str, key: str) -> Entry | Rejected:
    if None in cells or None in cells.values():
        given = sum(cells[name] is not None for name in names) + len(cells.get(None, ()))
        message = f"{where}: {given} cells for {len(names)} columns; quote those that hold commas or lines"
        return Rejected(key, "malformed_row", message, repr(cells).encode()[: 1 << 20])
    return read_row({name: unmarked_text(cell) for name, cell in cells.items()}, where, key, "csv")
