"""Arrow schema of crystals and entries, and the codec between `Crystal` objects and record batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from gnome_core.crystals.crystal import Crystal

SCHEMA_VERSION = 1


def _list_of(value_type: pa.DataType) -> pa.ListType:
    # Parquet names the child of a list "element"; with that name a table read back has this very schema.
    return pa.list_(pa.field("element", value_type))


CRYSTAL_FIELDS: list[pa.Field] = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("lattice", _list_of(pa.float64()), nullable=False),  # 9 numbers, vectors as rows, Å
    pa.field("frac_coords", _list_of(pa.float64()), nullable=False),  # 3n numbers
    pa.field("numbers", _list_of(pa.uint8()), nullable=False),  # n atomic numbers
]

# An entry is a labelled, evaluated crystal: rows of the snapshot and ingested results of the rounds alike.
ENTRY_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,
        pa.field("formula", pa.string(), nullable=False),  # pymatgen's reduced formula
        pa.field("chemsys", pa.string(), nullable=False),  # "Li-O"
        pa.field("energy_per_atom", pa.float64(), nullable=False),  # raw total energy on `scale`
        pa.field("correction_per_atom", pa.float64(), nullable=False),  # to be added to energy_per_atom
        pa.field("correction_version", pa.string()),  # scheme and code that computed it; null where there is none
        pa.field("e_form_per_atom", pa.float64(), nullable=False),  # corrected, against the references of `scale`
        pa.field("energy_kind", pa.string(), nullable=False),  # of energy_per_atom: "total"
        pa.field("scale", pa.string(), nullable=False),  # functional + corrections + engine, "chgnet-0.3.0"
        pa.field("source", pa.string(), nullable=False),  # "mp", "cif", "round", ...
        pa.field("reference_e_form_per_atom", pa.float64()),  # the source database's own label
        pa.field("round", pa.int32(), nullable=False),  # 0 = snapshot
        pa.field("parent", pa.string()),  # entry id
        pa.field("job", pa.string()),  # job digest
    ],
    metadata={
        "schema": "gnome.entry",
        "schema_version": str(SCHEMA_VERSION),
        "unit.lattice": "angstrom",
        "unit.frac_coords": "fractional",
        "unit.energy_per_atom": "eV/atom",
        "unit.correction_per_atom": "eV/atom",
        "unit.e_form_per_atom": "eV/atom",
        "unit.reference_e_form_per_atom": "eV/atom",
    },
)


def crystals_to_arrays(crystals: Sequence[Crystal]) -> dict[str, pa.Array]:
    """The columns `lattice`, `frac_coords` and `numbers` (as in `CRYSTAL_FIELDS`) of the crystals."""
    sites = np.array([crystal.n_sites for crystal in crystals], np.int64)
    return {
        "lattice": _list_array([c.lattice for c in crystals], np.full(len(sites), 9), np.float64),
        "frac_coords": _list_array([c.frac_coords for c in crystals], 3 * sites, np.float64),
        "numbers": _list_array([c.numbers for c in crystals], sites, np.uint8),
    }


def as_entries(table: pa.Table) -> pa.Table:
    """The columns of ENTRY_SCHEMA out of a table; those that may be null are so where the table lacks them.

    Raises ValueError naming the required columns that are missing.
    """
    missing = [field.name for field in ENTRY_SCHEMA if not field.nullable and field.name not in table.column_names]
    if missing:
        raise ValueError(f"no entries: columns {', '.join(missing)} are missing")
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in ENTRY_SCHEMA
    ]
    return pa.table(columns, schema=ENTRY_SCHEMA)


def record_batch(
    schema: pa.Schema, ids: Sequence[str] | pa.Array, crystals: Sequence[Crystal], **columns
) -> pa.RecordBatch:
    """A batch of `schema`, which holds `CRYSTAL_FIELDS` and whatever else `columns` gives.

    columns: name -> sequence, numpy or Arrow array of one value a crystal, or one scalar (string, number or None)
        for all of them. Nullable columns of the schema that are left out become null.
    Raises ValueError for a column the schema lacks, a missing or null value in a required column, a wrong length.
    """
    if unknown := set(columns) - set(schema.names):
        raise ValueError(f"columns {sorted(unknown)} are not in the schema, which has {schema.names}")
    rows = len(crystals)
    columns = {"id": ids, **crystals_to_arrays(crystals), **columns}
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        if value is None or isinstance(value, str | bool | int | float | np.generic):
            array = pa.repeat(pa.scalar(value, field.type), rows)
        elif isinstance(value, pa.ChunkedArray):
            array = value.combine_chunks().cast(field.type)
        elif isinstance(value, pa.Array):
            array = value.cast(field.type)
        else:
            array = pa.array(value, field.type)
        if len(array) != rows:
            raise ValueError(f"column {field.name!r} has {len(array)} values for {rows} crystals")
        if array.null_count and not field.nullable:
            raise ValueError(f"column {field.name!r} needs a value in every row; {array.null_count} of {rows} lack one")
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def crystals_from_batch(batch: pa.RecordBatch | pa.Table) -> list[Crystal]:
    """The crystals of a batch, a slice of one, or a table of any chunking, in row order.

    The arrays of the crystals are read-only views of the batch wherever its types allow it.
    Raises ValueError naming the row whose lists are null or of inconsistent lengths, or for numbers out of range.
    """
    crystals: list[Crystal] = []
    batches = [batch] if isinstance(batch, pa.RecordBatch) else batch.select(_STRUCTURE_COLUMNS).to_batches()
    for part in batches:
        crystals.extend(_decode(part, len(crystals)))
    return crystals


_STRUCTURE_COLUMNS = ["lattice", "frac_coords", "numbers"]


def _decode(batch: pa.RecordBatch, first_row: int) -> list[Crystal]:
    (lattice, lattice_ends), (frac, frac_ends), (numbers, ends) = (
        _flat(batch.column(name), value_type, name, first_row)
        for name, value_type in zip(_STRUCTURE_COLUMNS, (pa.float64(), pa.float64(), pa.uint8()), strict=True)
    )
    wrong = (np.diff(lattice_ends) != 9) | (np.diff(frac_ends) != 3 * np.diff(ends))
    if wrong.any():
        row = int(np.argmax(wrong))
        lengths = [int(np.diff(e)[row]) for e in (lattice_ends, frac_ends, ends)]
        raise ValueError(
            f"row {first_row + row}: {lengths[0]} lattice numbers, {lengths[1]} fractional coordinates and "
            f"{lengths[2]} atomic numbers do not make a crystal (9, 3n, n); write the row again"
        )
    cells = lattice.reshape(-1, 3, 3)
    sites = frac.reshape(-1, 3)
    bounds = ends.tolist()
    return [
        Crystal(cell, sites[start:end], numbers[start:end])
        for cell, start, end in zip(cells, bounds[:-1], bounds[1:], strict=True)
    ]


def _flat(column: pa.Array, value_type: pa.DataType, name: str, first_row: int) -> tuple[np.ndarray, np.ndarray]:
    """All values of a list column, and the n + 1 ends of its rows within them."""
    if column.null_count:
        row = first_row + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(f"row {row}: {name} is null; write the row again")
    ends = np.arange(len(column) + 1)
    values = column
    while pa.types.is_nested(values.type):  # three lists of three are nine numbers
        if values.null_count:
            raise ValueError(
                f"rows {first_row}..{first_row + len(column) - 1}: {name} holds null vectors; write them again"
            )
        if isinstance(values, pa.FixedSizeListArray):
            ends = ends * values.type.list_size
        else:
            # A slice keeps absolute offsets into the whole child, while flatten() returns the slice's values only.
            offsets = values.offsets.to_numpy()
            ends = (offsets - offsets[0])[ends]
        values = values.flatten()
    if values.null_count:
        raise ValueError(
            f"rows {first_row}..{first_row + len(column) - 1}: {name} holds null numbers; write them again"
        )
    return values.cast(value_type).to_numpy(), ends


def _list_array(parts: list[np.ndarray], lengths: np.ndarray, dtype: type) -> pa.ListArray:
    values = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.empty(0, dtype)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.array(values)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=_list_of(values.type))
