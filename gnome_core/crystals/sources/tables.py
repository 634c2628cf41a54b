"""Tables of CSV and Parquet files, their cells as they stand: a name of digits stays a name."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gnome_core.crystals.entries import SourceError
from gnome_core.spreadsheets import unmarked


def read_table(path: Path) -> pa.Table:
    """A .csv file, every cell text, or a .parquet file. Raises SourceError for a file that is neither."""
    try:
        return unmarked(_read_csv(path)) if path.suffix.lower() == ".csv" else pq.read_table(path)
    except (pa.ArrowException, OSError, UnicodeError, csv.Error) as error:
        raise SourceError(f"{path}: cannot be read ({error}); it must be a CSV or Parquet table") from None


def _read_csv(path: Path) -> pa.Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = next(csv.reader(file), [])
    # Columns that are left to pyarrow become numbers or dates where all cells look like some: 0012 -> 12.
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, convert_options=options, parse_options=parsing)


def column_names(path: Path) -> list[str]:
    """The names of a table's columns; none of a file that is no table, which its reader says."""
    try:
        if path.suffix.lower() != ".csv":
            return pq.read_schema(path).names
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (pa.ArrowException, OSError, UnicodeError, csv.Error):
        return []


def texts(table: pa.Table, name: str) -> list[str | None]:
    """The cells of a column of names, ids or formulas as text; None where there is nothing in one."""
    return [None if value is None or value == "" else str(value) for value in table[name].to_pylist()]
