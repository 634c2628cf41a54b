"""Digests that do not depend on the runner: of JSON documents and of table rows in any order."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise, repeat

import numpy as np
import pyarrow as pa

_MODULUS = 1 << 128
_NULL, _VALUE = b"\x00", b"\x01"


def json_digest(document: object) -> str:
    """32 hex characters of the document written as JSON with sorted keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def rows_digest(table: pa.Table | pa.RecordBatch) -> int:
    """Sum modulo 2^128 of every row's blake2b-128, so that order, files and bundles do not matter.

    A row's bytes are its values in the order of column names, bit for bit (a null differs from any value).
    """
    batches = [table] if isinstance(table, pa.RecordBatch) else table.to_batches()
    names = sorted(table.schema.names)
    header = "".join(f"{name}:{table.schema.field(name).type};" for name in names).encode()
    start = hashlib.blake2b(header, digest_size=16)
    total = 0
    for batch in batches:
        for row in zip(*(_cells(batch.column(name)) for name in names), strict=True):
            digest = start.copy()
            digest.update(b"".join(row))
            total += int.from_bytes(digest.digest(), "little")
    return total % _MODULUS


def add_digests(*digests: int) -> int:
    return sum(digests) % _MODULUS


def _cells(array: pa.Array) -> list[bytes]:
    """Each value's own bytes, prefixed by a null flag and, where lengths vary, by the length."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _cells(array.dictionary_decode())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _list_cells(array)
    if pa.types.is_fixed_size_list(kind):
        return _list_cells(array.cast(pa.list_(kind.value_type)))
    if pa.types.is_struct(kind):
        parts = zip(*(_cells(child) for child in array.flatten()), strict=True)
        return _with_nulls(array, [b"".join(part) for part in parts])
    if pa.types.is_boolean(kind):
        return [_NULL if v is None else (b"\x01\x01" if v else b"\x01\x00") for v in array.to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [_NULL if v is None else _framed(v.encode()) for v in array.to_pylist()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [_NULL if v is None else _framed(v) for v in array.to_pylist()]
    if pa.types.is_null(kind):
        return list(repeat(_NULL, len(array)))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise TypeError(f"no row digest for a column of type {kind}; store it as numbers, strings or lists of them")
    width, data = kind.bit_width // 8, _fixed_bytes(array)
    return _with_nulls(array, [data[i * width : (i + 1) * width] for i in range(len(array))])


def _list_cells(array: pa.ListArray) -> list[bytes]:
    offsets = np.asarray(array.offsets) - array.offsets[0].as_py()
    values = array.values.slice(array.offsets[0].as_py(), int(offsets[-1]))
    kind = values.type
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not values.null_count:
        width, data = kind.bit_width // 8, _fixed_bytes(values)
        cells = [data[a * width : b * width] for a, b in pairwise(offsets.tolist())]
    else:
        inner = _cells(values)
        cells = [b"".join(inner[a:b]) for a, b in pairwise(offsets.tolist())]
    return [_NULL if null else _framed(cell) for null, cell in zip(_nulls(array), cells, strict=True)]


def _fixed_bytes(array: pa.Array) -> bytes:
    if array.null_count:
        array = array.fill_null(0)
    return array.to_numpy(zero_copy_only=False).tobytes()


def _framed(value: bytes) -> bytes:
    return b"\x01" + len(value).to_bytes(4, "little") + value


def _nulls(array: pa.Array) -> list[bool]:
    return array.is_null().to_pylist() if array.null_count else [False] * len(array)


def _with_nulls(array: pa.Array, cells: list[bytes]) -> list[bytes]:
    return [_NULL if null else _VALUE + cell for null, cell in zip(_nulls(array), cells, strict=True)]


def weights_digest(path: str) -> str:
    """32 hex characters of the arrays of an .npz and their names."""
    digest = hashlib.blake2b(digest_size=16)
    with np.load(path, allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            digest.update(name.encode() + b"\0" + arrays[name].tobytes())
    return digest.hexdigest()
