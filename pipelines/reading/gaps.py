"""Band gaps from a table of a user's: the one reader of all commands that ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gnome_core.compositions.formula_parser import BadFormula, composition_of
from gnome_core.compositions.formulas import formula_of_composition
from gnome_core.crystals.sources.tables import read_table, texts
from gnome_core.crystals.sources.values import as_number
from pipelines.errors import UserError


def read_gaps(path: Path) -> dict[str, float]:
    """Band gaps (eV) of a CSV or Parquet table by its column id, or by the reduced formula of its column formula.

    Rows without a gap are passed over. Raises UserError for a table without the columns, and, naming the row, for a gap
    that is no number and for what is no formula.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    table = read_table(path)
    keys = [name for name in ("id", "formula") if name in table.column_names]
    if "band_gap" not in table.column_names or not keys:
        raise UserError(f"{path} needs a column band_gap beside id or formula; it has {table.column_names}")
    gaps: dict[str, float] = {}
    for key in reversed(keys):  # an id is surer than a formula
        for row, (name, cell) in enumerate(zip(texts(table, key), table["band_gap"].to_pylist(), strict=True)):
            try:
                gap = as_number(cell)
                if name is not None and gap is not None and gap == gap:
                    gaps[name if key == "id" else formula_of_composition(composition_of(name))] = gap
            except (BadFormula, ValueError) as error:
                raise UserError(f"{path}, row {row}: {error}; correct it, or leave band_gap empty") from None
    return gaps


def gap_of(gaps: Mapping[str, float], id_: str, formula: str) -> float | None:
    """The gap of an entry, by its id or else by its reduced formula; None where the table has neither."""
    return gaps.get(id_, gaps.get(formula))
