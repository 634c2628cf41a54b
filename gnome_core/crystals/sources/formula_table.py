"""Compositions of a CSV or Parquet file that has a column `formula`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, Composition, composition_key
from gnome_core.crystals.entries import Rejected, SourceError
from gnome_core.spreadsheets import unmarked

MAX_DENOMINATOR = 100  # of fractional amounts
_LABEL = "e_form_per_atom"


@dataclass(frozen=True)
class LabelledComposition:
    """key: id of the row, or its number. composition: reduced, ((atomic number, count), ...)."""

    key: str
    composition: Composition
    e_form_per_atom: float | None


def read_formula_table(path: Path) -> Iterator[LabelledComposition | Rejected]:
    """Rows of a table with the column `formula` ("Li15Si4"); `id` and `e_form_per_atom` (eV/atom) are optional.

    Amounts may be fractional as long as small whole numbers express them. What is no formula comes as `Rejected`.
    Raises SourceError for a file that cannot be read or has no such column.
    """
    try:
        table = unmarked(pyarrow.csv.read_csv(path)) if path.suffix == ".csv" else pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: cannot be read ({error}); it must be a CSV or Parquet table") from None
    if "formula" not in table.column_names:
        raise SourceError(f"{path} has no column `formula`; it has {table.column_names}")
    rows = range(len(table))
    keys = table["id"].to_pylist() if "id" in table.column_names else rows
    labels = table[_LABEL].to_pylist() if _LABEL in table.column_names else [None] * len(table)
    for row, key, formula, label in zip(rows, keys, table["formula"].to_pylist(), labels, strict=True):
        yield _read(f"{path}, row {row}", str(key), str(formula), label)


def _read(where: str, key: str, formula: str, label: float | None) -> LabelledComposition | Rejected:
    from pymatgen.core import Composition as PymatgenComposition
    from pymatgen.core import Element

    def rejected(reason: str, message: str) -> Rejected:
        return Rejected(key, reason, f"{where}: {message}", formula.encode())

    if label is not None and not math.isfinite(label):
        return rejected("not_finite", f"formation energy is {label}; correct it or leave it empty")
    try:
        whole, _ = PymatgenComposition(formula).get_integer_formula_and_factor(MAX_DENOMINATOR)
        amounts = PymatgenComposition(whole)
    except ValueError:
        return rejected("bad_formula", f"{formula!r} is no formula of known elements; write one as Li15Si4")
    numbers = [
        e.Z if isinstance(e, Element) else MAX_ATOMIC_NUMBER + 1 for e, n in amounts.items() for _ in range(round(n))
    ]
    if not numbers or max(numbers) > MAX_ATOMIC_NUMBER:
        return rejected(
            "unknown_element", f"{formula!r} holds none of the elements 1..{MAX_ATOMIC_NUMBER}, or others too"
        )
    return LabelledComposition(key, composition_key(numbers), label)
