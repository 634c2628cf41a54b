"""Compositions of a CSV or Parquet file that has a column `formula`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gnome_core.compositions.formula_parser import BadFormula, composition_of
from gnome_core.compositions.formulas import Composition
from gnome_core.crystals.entries import Rejected, SourceError
from gnome_core.crystals.sources.tables import read_table, texts
from gnome_core.crystals.sources.values import as_number

_LABEL = "e_form_per_atom"


@dataclass(frozen=True)
class LabelledComposition:
    """key: id of the row, or its number. composition: reduced, ((atomic number, count), ...)."""

    key: str
    composition: Composition
    e_form_per_atom: float | None


def read_formula_table(path: Path) -> Iterator[LabelledComposition | Rejected]:
    """Rows of a table with the column `formula` ("Li15Si4"); `id` and `e_form_per_atom` (eV/atom) are optional.

    Amounts may be fractional. What is no formula, and a label that is no number, comes as `Rejected`.
    Raises SourceError for a file that cannot be read or has no such column.
    """
    table = read_table(path)
    if "formula" not in table.column_names:
        raise SourceError(f"{path} has no column `formula`; it has {table.column_names}")
    keys = texts(table, "id") if "id" in table.column_names else [None] * len(table)
    labels = table[_LABEL].to_pylist() if _LABEL in table.column_names else [None] * len(table)
    for row, (key, formula, label) in enumerate(zip(keys, texts(table, "formula"), labels, strict=True)):
        yield _read(f"{path}, row {row}", str(row) if key is None else key, formula or "", label)


def _read(where: str, key: str, formula: str, cell: object) -> LabelledComposition | Rejected:
    def rejected(reason: str, message: str) -> Rejected:
        return Rejected(key, reason, f"{where}: {message}", formula.encode())

    try:
        label = as_number(cell) if isinstance(cell, str) else cell
        if label is not None and not math.isfinite(label):  # ty: ignore[invalid-argument-type] (a TypeError is caught)
            return rejected("not_finite", f"formation energy is {label}; correct it or leave it empty")
    except (ValueError, TypeError):
        return rejected("not_a_number", f"{_LABEL} is {cell!r}; write a number or leave it empty")
    try:
        return LabelledComposition(key, composition_of(formula), label)  # ty: ignore[invalid-argument-type] (finite)
    except BadFormula as error:
        return rejected(error.reason, str(error))
