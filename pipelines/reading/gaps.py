"""Band gaps: of a user's table, of calculations that a store has taken in, and of the model where nobody else knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dft.tables import DONE, RESULT_SCHEMA
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formula_parser import BadFormula, composition_of
from gnome_core.compositions.formulas import formula_of_composition
from gnome_core.crystals.sources.tables import read_table, texts
from gnome_core.crystals.sources.values import as_number
from pipelines.errors import UserError
from pipelines.reading.committed import committed
from pipelines.store.store import Store

TABLE = "the given table"


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


def computed_gaps(store: Store, entries: pa.Table, round_: int) -> dict[str, pa.Array]:
    """band_gap (eV) and band_gap_by (the energy scale) of entries by the newest first-principles result of their jobs
    that rounds 1..round_ took in; null where there is none."""
    found: dict[str, tuple[float, str]] = {}
    columns = ["id", "status", "band_gap", "scale"]
    for earlier in range(1, round_ + 1):
        results = store.read_table(committed(store, earlier, "evaluate"), "results", RESULT_SCHEMA, columns)
        known = results.filter(pc.and_(pc.equal(results["status"], DONE), results["band_gap"].is_valid()))
        found |= {row["id"]: (row["band_gap"], row["scale"]) for row in known.to_pylist()}
    rows = [found.get(job, (None, None)) for job in entries["job"].to_pylist()]
    return _columns(rows)


def with_gaps(entries: pa.Table, given: Mapping[str, float] | None) -> pa.Table:
    """Entries whose band_gap and band_gap_by are those of the given table (`read_gaps`), else those that were computed,
    else the model's (`gnome_core.ensembles.band_gaps`); null where it knows an element not."""
    from gnome_core.ensembles.band_gaps import MODEL, predict_band_gaps

    given = given or {}
    names = (entries[name].to_pylist() for name in ("id", "formula", "band_gap", "band_gap_by"))
    rows: list[tuple[float | None, str | None]] = []
    for id_, formula, gap, by in zip(*names, strict=True):
        own = given.get(id_, given.get(formula))
        rows.append((gap, by) if own is None else (own, TABLE))
    unknown = [row for row, (gap, _) in enumerate(rows) if gap is None]
    if unknown:
        predicted = predict_band_gaps(atom_counts(entries["numbers"].take(pa.array(unknown)).combine_chunks()))
        for row, gap in zip(unknown, predicted.tolist(), strict=True):
            rows[row] = (gap, MODEL) if gap == gap else (None, None)
    for name, column in _columns(rows).items():
        entries = entries.set_column(entries.column_names.index(name), name, column)
    return entries


def _columns(rows: Sequence[tuple[float | None, str | None]]) -> dict[str, pa.Array]:
    return {
        "band_gap": pa.array([gap for gap, _ in rows], pa.float64()),
        "band_gap_by": pa.array([by for _, by in rows], pa.string()),
    }
