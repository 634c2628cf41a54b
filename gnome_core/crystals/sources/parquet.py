"""Crystals of a Parquet file that has the columns `id`, `lattice`, `frac_coords` and `numbers`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.crystals.entries import Entry, Rejected, SourceError, read_entry

_REQUIRED = ["id", "lattice", "frac_coords", "numbers"]
# Our own files keep the label of the source database beside the evaluated one.
_LABELS = ["reference_e_form_per_atom", "e_form_per_atom"]


def read_parquet(path: Path) -> Iterator[Entry | Rejected]:
    """Rows of a file of ENTRY_SCHEMA, or of any table with 9 numbers of `lattice` (vectors as rows, Å), 3n of
    `frac_coords` and n of `numbers` a row; optional columns are `e_form_per_atom` (eV/atom) and `source`.

    A file that is no complete Parquet is one `Rejected`, and so is a row group that cannot be decompressed.
    Raises SourceError when required columns are missing.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        message = f"{path}: not a complete Parquet file ({error}); copy or export it again"
        yield Rejected(path.name, "unreadable_file", message, b"")
        return
    with file:
        if missing := set(_REQUIRED) - set(file.schema_arrow.names):
            raise SourceError(f"{path} lacks the columns {sorted(missing)}; it needs {_REQUIRED}")
        label = next((name for name in _LABELS if name in file.schema_arrow.names), None)
        columns = _REQUIRED + [name for name in (label, "source") if name in file.schema_arrow.names]
        first_row = 0
        for group in range(file.num_row_groups):
            row = first_row
            first_row += file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(2000, row_groups=[group], columns=columns):
                    yield from _read_batch(batch, path, row, label)
                    row += len(batch)
            except (pa.ArrowException, OSError) as error:
                message = f"{path}, rows {row}..{first_row - 1}: damaged ({error}); copy or export the file again"
                yield Rejected(f"{path.name}:{row}", "unreadable_file", message, b"")


def _read_batch(batch: pa.RecordBatch, path: Path, first_row: int, label: str | None) -> Iterator[Entry | Rejected]:
    ids = [str(value) if value is not None else "" for value in batch["id"].to_pylist()]
    labels = batch[label].to_pylist() if label else [None] * len(batch)
    sources = batch["source"].to_pylist() if "source" in batch.schema.names else [None] * len(batch)
    crystals = _decode(batch)
    for i, crystal in enumerate(crystals):
        yield read_entry(
            ids[i],
            f"{path}, row {first_row + i}",
            sources[i] or "parquet",
            lambda crystal=crystal: _valid(crystal),
            labels[i],
            lambda i=i: _ipc(batch.slice(i, 1)),
        )


def _decode(batch: pa.RecordBatch) -> list[Crystal | ValueError]:
    """The crystals of a batch; where one row cannot be decoded, the error in its place (found by bisection)."""
    try:
        return list(crystals_from_batch(batch))
    except ValueError as error:
        if len(batch) == 1:
            return [error]
        half = len(batch) // 2
        return _decode(batch.slice(0, half)) + _decode(batch.slice(half))


def _valid(crystal: Crystal | ValueError) -> Crystal:
    if isinstance(crystal, InvalidCrystal):
        raise crystal
    if isinstance(crystal, ValueError):
        text = str(crystal).removeprefix("row 0: ")
        raise InvalidCrystal("malformed_row", text) from crystal
    return crystal


def _ipc(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()
