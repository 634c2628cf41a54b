"""Crystals of a Parquet file: of arrays as ours (`lattice`, `frac_coords`, `numbers`), or in the words of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.crystals.entries import Entry, Rejected, SourceError, read_entry
from gnome_core.crystals.sources.rows import OPTIMADE, STRUCTURES, Columns, read_row
from gnome_core.crystals.sources.source_file import SourceFile, plain_path

_ARRAYS = ["lattice", "frac_coords", "numbers"]
_BATCH = 2000  # rows
# Our own files keep the label of the source database beside the evaluated one, which is the label.
_REFERENCE = "reference_e_form_per_atom"


def read_parquet(file: SourceFile) -> Iterator[Entry | Rejected]:
    """Rows of a file of ENTRY_SCHEMA, or of any table with 9 numbers of `lattice` (vectors as rows, Å), 3n of
    `frac_coords` and n of `numbers` a row, in one list or nested (three lists of three); or with a column of
    `rows.STRUCTURES`, or OPTIMADE's `lattice_vectors`, `cartesian_site_positions` and `species_at_sites`. Ids and
    labels by the names of `rows.Columns`; `reference_e_form_per_atom` (eV/atom) and `source` beside arrays.

    A file that is no complete Parquet is one `Rejected`, and so is a row group that cannot be decompressed.
    Raises SourceError when columns are missing or hold no lists.
    """
    with plain_path(file) as path:
        try:
            opened = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            message = f"{file.where}: not a complete Parquet file ({error}); copy or export it again"
            yield Rejected(file.name, "unreadable_file", message, b"")
            return
        with opened:
            yield from _read(file, path, opened)


def _read(file: SourceFile, path: Path, opened: pq.ParquetFile) -> Iterator[Entry | Rejected]:
    names, known = opened.schema_arrow.names, Columns.of(opened.schema_arrow.names)
    missing = [name for name in _ARRAYS if name not in names]
    if missing and known.structure is None:
        instead = f"{', '.join(STRUCTURES)} or OPTIMADE's {OPTIMADE}"
        raise SourceError(f"{file.where} lacks the columns {sorted(missing)}, and has none of {instead}: {names}")
    if not missing:
        for name in _ARRAYS:
            if not _holds_numbers(kind := opened.schema_arrow.field(name).type):
                raise SourceError(f"{file.where}: column {name} is of type {kind}; it must hold lists of numbers")
        others = (known.id, known.label, _REFERENCE, "source")
        columns = [*_ARRAYS, *(name for name in others if name is not None and name in names)]
    else:
        columns = names  # an entry's energies are in any of them
    first_row = 0
    for group in range(opened.num_row_groups):
        row = first_row
        first_row += opened.metadata.row_group(group).num_rows
        try:
            for batch in _batches(path, opened, group, columns):
                if missing:
                    yield from _read_documents(batch, file, row)
                else:
                    yield from _read_arrays(batch, file.where, file.key, row, known)
                row += len(batch)
        except (pa.ArrowException, OSError) as error:
            message = f"{file.where}, rows {row}..{first_row - 1}: damaged ({error}); copy or export the file again"
            yield Rejected(f"{file.name}:{row}", "unreadable_file", message, b"")


def _batches(path: Path, file: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The batches of a row group."""
    done = 0
    try:
        for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
            yield batch
            done += len(batch)
        return
    except pa.ArrowInvalid:
        if not any(pa.types.is_fixed_size_list(file.schema_arrow.field(name).type) for name in columns):
            raise
    # A null among lists of one size, which pyarrow writes but cannot read as such.
    with pq.ParquetFile(_of_plain_lists(path)) as plain:
        yield from plain.read_row_group(group, columns=columns).slice(done).to_batches(_BATCH)


def _of_plain_lists(path: Path) -> pa.BufferReader:
    """The file without the note that its lists are of one size: Parquet itself knows no such lists."""
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    return pa.BufferReader(content[:footer] + content[footer:].replace(b"ARROW:schema", b"arrow_schema"))


def read_rows(table: pa.Table, source: str) -> Iterator[Entry | Rejected]:
    """The rows of a table with those columns that was read from `source`: one item each, in their order."""
    row, known = 0, Columns.of(table.column_names)
    for batch in table.to_batches(max_chunksize=_BATCH):
        yield from _read_arrays(batch, source, "row", row, known)
        row += len(batch)


def _read_documents(batch: pa.RecordBatch, file: SourceFile, first_row: int) -> Iterator[Entry | Rejected]:
    for row, cells in enumerate(batch.to_pylist(), first_row):
        yield read_row(cells, f"{file.where}, row {row}", f"{file.key}-{row}", "parquet")


def _read_arrays(
    batch: pa.RecordBatch, where: str, key: str, first_row: int, known: Columns
) -> Iterator[Entry | Rejected]:
    labels, references, sources = (
        batch[name].to_pylist() if name in batch.schema.names else [None] * len(batch)
        for name in (known.label, _REFERENCE, "source")
    )
    ids = [f"{key}-{row}" for row in range(first_row, first_row + len(batch))]
    if known.id is not None:
        ids = [str(value) if value is not None else "" for value in batch[known.id].to_pylist()]
    for i, crystal in enumerate(_decode(batch)):
        yield read_entry(
            ids[i],
            f"{where}, row {first_row + i}",
            str(sources[i] or "parquet"),
            lambda crystal=crystal: _valid(crystal),
            labels[i],
            lambda i=i: _ipc(batch.slice(i, 1)),
            references[i],
            known.energies if labels[i] is None else (),
        )


def _holds_numbers(kind: pa.DataType) -> bool:
    """Whether a column is of lists of numbers, nested to any depth."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
            return True
    return False


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
