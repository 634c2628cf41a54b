"""A table of reference conductivities, and what a potential's molecular dynamics says of the same materials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from gnome_core.analysis.diffusion import IONS, mobile_ion
from gnome_core.analysis.result import Analysis
from gnome_core.analysis.superionic_agreement import analyse
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS, reduced_formula
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.readers import Rejected, read_snapshot
from gnome_core.crystals.sources.tables import read_table, texts
from gnome_core.crystals.sources.values import as_number
from pipelines.errors import UserError
from pipelines.potentials.superionic_screen import verdict

REFERENCE_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,
        pa.field("formula", pa.string()),
        pa.field("ion", pa.string()),
        pa.field("conductivity", pa.float64()),  # at 1,000 K, mS/cm
    ],
    metadata={"unit.conductivity": "mS/cm"},
)
ANSWERS = {"superionic": True, "not superionic": False}


def read_references(path: Path) -> pa.Table:
    """REFERENCE_SCHEMA of a CSV or Parquet table of crystals with the columns id and conductivity (mS/cm at 1,000 K).

    A column ion names the mobile element; without one it is the first of Li, Na, K, Mg and Ca that a crystal holds.
    Raises UserError naming the row for a crystal that cannot be read, a conductivity that is no number or below zero,
    and an ion that the crystal lacks or consists of.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    table = read_table(path)
    if missing := [name for name in ("id", "conductivity") if name not in table.column_names]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; it needs crystals, id and conductivity")
    ids, cells = texts(table, "id"), table["conductivity"].to_pylist()
    named = texts(table, "ion") if "ion" in table.column_names else [None] * len(ids)
    known = {id_: (row, cell, ion) for row, (id_, cell, ion) in enumerate(zip(ids, cells, named, strict=True))}
    entries, ions, conductivities = [], [], []
    for item in read_snapshot(str(path)):
        if isinstance(item, Rejected):
            raise UserError(item.message)
        row, cell, ion = known[item.id]
        elements = set(item.crystal.numbers.tolist())
        ion = ion or mobile_ion([SYMBOLS[z] for z in elements])
        if ion not in IONS or NUMBERS[ion] not in elements or len(elements) == 1:
            raise UserError(
                f"{path}, row {row} ({item.id}): {ion or 'no ion'} in {reduced_formula(item.crystal.numbers)}; the ion "
                f"must be one of {', '.join(IONS)} beside other elements"
            )
        ions.append(ion)
        conductivities.append(_conductivity(cell, f"{path}, row {row} ({item.id})"))
        entries.append(item)
    crystals = [item.crystal for item in entries]
    batch = record_batch(
        REFERENCE_SCHEMA,
        [item.id for item in entries],
        crystals,
        formula=[reduced_formula(crystal.numbers) for crystal in crystals],
        ion=ions,
        conductivity=conductivities,
    )
    return pa.Table.from_batches([batch])


def _conductivity(cell: object, where: str) -> float:
    try:
        value = as_number(cell)
    except ValueError as error:
        raise UserError(f"{where}: conductivity: {error}; write mS/cm at 1,000 K") from None
    if value is None or not np.isfinite(value) or value < 0:
        raise UserError(f"{where}: conductivity is {cell!r}; write mS/cm at 1,000 K, or leave the row out")
    return value


def agreement(references: pa.Table, results: pa.Table) -> Analysis:
    """references: REFERENCE_SCHEMA; results: CONDUCTIVITY_SCHEMA of the same materials at 1,000 K."""
    by_id = {row["id"]: row for row in results.to_pylist()}
    rows = [by_id[id_] for id_ in references["id"].to_pylist()]
    verdicts = [verdict(row) for row in rows]
    return analyse(
        references, [row["conductivity"] for row in rows], [ANSWERS.get(text) for text in verdicts], verdicts
    )
