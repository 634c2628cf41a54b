"""Compositions as rows of atom counts by atomic number: the one representation of `gnome_core.stability`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, SYMBOLS
from gnome_core.errors import GnomeError

N_COLUMNS = MAX_ATOMIC_NUMBER + 1  # column Z holds element Z; column 0 stays empty


class MissingReference(GnomeError, ValueError):
    """An element without an elemental reference. `.elements` holds their symbols."""

    def __init__(self, atomic_numbers: Sequence[int], where: str, remedy: str):
        self.elements = tuple(SYMBOLS[z] for z in sorted(atomic_numbers))
        super().__init__(f"no elemental reference for {', '.join(self.elements)} ({where}); {remedy}")


def atom_counts(numbers: Sequence[np.ndarray] | pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n, 95) float64 atom counts by atomic number of n crystals.

    numbers: the crystals' atomic numbers, as a sequence of (n_sites,) integer arrays or as the Arrow list
        column `numbers` of an entries table (no Python loop over rows then).

    Raises ValueError for a crystal without atoms or an atomic number outside 1..94, naming the row.
    """
    cells, n = _cells(numbers)
    return np.bincount(cells, minlength=n * N_COLUMNS).reshape(-1, N_COLUMNS).astype(np.float64)


def _cells(numbers: Sequence[np.ndarray] | pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """(sites,) row * N_COLUMNS + atomic number of every site, and the number of rows; raises as `atom_counts`."""
    if isinstance(numbers, pa.ChunkedArray):
        numbers = numbers.combine_chunks()
    if isinstance(numbers, pa.Array):
        offsets = numbers.offsets.to_numpy()
        flat, sites = numbers.flatten().to_numpy(zero_copy_only=False), np.diff(offsets)
    else:
        sites = np.array([len(row) for row in numbers], np.int64)
        flat = np.concatenate([np.asarray(row) for row in numbers]) if len(sites) else np.zeros(0, np.uint8)
    if not sites.all():
        raise ValueError(f"row {int(sites.argmin())} has no atoms; leave it out")
    rows = np.repeat(np.arange(len(sites)), sites)
    unknown = (flat < 1) | (flat > MAX_ATOMIC_NUMBER)
    if unknown.any():
        raise ValueError(f"row {rows[unknown][0]}: atomic number {flat[unknown][0]} is outside 1..{MAX_ATOMIC_NUMBER}")
    return rows * N_COLUMNS + flat.astype(np.int64), len(sites)


class SparseCompositions(NamedTuple):
    """n compositions as runs: run i holds starts[i]:starts[i + 1], its atomic numbers ascending."""

    starts: np.ndarray  # (n + 1,) int64
    numbers: np.ndarray  # (nnz,) uint8 atomic numbers
    amounts: np.ndarray  # (nnz,) float64, > 0


def sparse_atom_counts(numbers: pa.ChunkedArray, block: int = 100_000) -> SparseCompositions:
    """`sparse(atom_counts(numbers))` of the Arrow list column `numbers`, without the dense table (760 bytes a row)."""
    parts = []
    for start in range(0, len(numbers), block):
        try:
            cells, n = _cells(numbers.slice(start, block))
        except ValueError as error:
            raise ValueError(f"rows from {start}: {error}") from None
        present, counts = np.unique(cells, return_counts=True)
        rows, elements = np.divmod(present, N_COLUMNS)
        parts.append((np.bincount(rows, minlength=n), elements.astype(np.uint8), counts.astype(np.float64)))
    empty = (np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0))
    lengths, elements, counts = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    return SparseCompositions(np.append(0, np.cumsum(lengths)), elements, counts)


def sparse(compositions: np.ndarray) -> SparseCompositions:
    """The elements present in each row of compositions (n, 95): atom counts, fractions or any other amounts.

    Raises ValueError, naming the row, for a wrong shape, NaN, negative or empty compositions.
    """
    amounts = np.asarray(compositions, np.float64)
    if amounts.ndim != 2 or amounts.shape[1] != N_COLUMNS:
        raise ValueError(f"compositions must have shape (n, {N_COLUMNS}), got {amounts.shape}; see atom_counts()")
    # Few of the columns are in use; NaN is not 0, so it is kept and seen below.
    columns = np.flatnonzero((amounts != 0).any(axis=0))
    held = amounts[:, columns]
    present = held != 0
    rows, numbers = np.nonzero(present)
    values, numbers = held[present], columns[numbers]
    lengths = present.sum(axis=1)
    unusable = ~((values > 0) & (values < np.inf) & (numbers > 0))
    if unusable.any() or not lengths.all():
        row = int(min(*rows[unusable], *np.flatnonzero(lengths == 0), len(amounts)))
        raise ValueError(f"composition of row {row} is empty, negative or not finite; every row needs atoms")
    return SparseCompositions(np.append(0, np.cumsum(lengths)), numbers.astype(np.uint8), values)
