"""CSV that spreadsheets open: text that they would run as a formula is marked, and the mark is taken off in reading."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from gnome_core.files import replacing

# Where a text begins with one of these, a spreadsheet takes it for a formula; with the mark before it, for text. Texts
# that begin with the mark get a second one, so that reading gives back what was written.
MARK = "'"
_TO_MARK = "^(['=+\\-@\t\r])"
_MARKED = "^'(['=+\\-@\t\r])"


def write_csv(table: pa.Table, path: str | Path) -> None:
    """The table as CSV, its texts marked where a spreadsheet would run them; numbers are as they are."""
    with replacing(path) as file:
        pyarrow.csv.write_csv(_replaced(table, _TO_MARK, MARK + r"\1"), file)


def unmarked(table: pa.Table) -> pa.Table:
    """A table that was read from CSV, its texts as they were before `write_csv`."""
    return _replaced(table, _MARKED, r"\1")


def marked(text: str) -> str:
    """One text as `write_csv` writes it."""
    return MARK + text if text.startswith((MARK, "=", "+", "-", "@", "\t", "\r")) else text


def unmarked_text(text: str) -> str:
    """One text as it was before `write_csv`."""
    return text[1:] if text[:1] == MARK and marked(text[1:]) == text else text


def _replaced(table: pa.Table, pattern: str, by: str) -> pa.Table:
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = pc.replace_substring_regex(table.column(i), pattern=pattern, replacement=by)
            table = table.set_column(i, field, column)
    return table
