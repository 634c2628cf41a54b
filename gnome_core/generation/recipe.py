"""Recipes: what makes a candidate, in 46 bytes, instead of the candidate.

Expanding a recipe is a pure function of the recipe and the parent table, so any candidate can be made again anywhere.
A candidate comes from a parent, whose ions are exchanged, or from a composition alone (parent = NO_PARENT): the recipe
then holds the atoms of the cell where it would hold the exchanged ions.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formulas import formula_of_composition
from gnome_core.compositions.packed import unpack_compositions
from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.volume import volume_factor

MAX_MAPPED = 6  # elements that one recipe can exchange
MAX_MASKED_SITES = 128
NO_PARENT = 2**32 - 1

RECIPE_SCHEMA = pa.schema(
    [
        pa.field("parent", pa.uint32(), nullable=False),  # row of the parent table, or NO_PARENT
        pa.field("generator", pa.uint8(), nullable=False),  # code of the generator
        # 6 atomic numbers, ascending, 0 padded, and what each maps to: the new atomic number or, without a parent, the
        # atoms of it in the cell.
        pa.field("mapping", pa.binary(12), nullable=False),
        pa.field("sites", pa.binary(16), nullable=False),  # bit i (little-endian) = site i is replaced; 0 = all sites
        pa.field("seed", pa.uint64(), nullable=False),  # of random generators; 0 where nothing is drawn
        pa.field("volume_factor", pa.float32(), nullable=False),  # cell volume over what `volume.py` expects
        pa.field("space_group", pa.uint8(), nullable=False),  # number that a cell is built with; 0 where none is asked
    ],
    metadata={"schema": "gnome.recipe", "schema_version": "2"},
)


class Recipe(NamedTuple):
    """One row of `RECIPE_SCHEMA`."""

    parent: int
    generator: int
    mapping: bytes
    sites: bytes
    seed: int
    volume_factor: float
    space_group: int

    @property
    def replacements(self) -> dict[int, int]:
        """Old atomic number -> new atomic number; empty without a parent."""
        return {} if self.parent == NO_PARENT else self._pairs

    @property
    def atoms(self) -> dict[int, int]:
        """Atomic number -> atoms in the cell; empty with a parent."""
        return self._pairs if self.parent == NO_PARENT else {}

    @property
    def _pairs(self) -> dict[int, int]:
        return {z: to for z, to in zip(self.mapping[:MAX_MAPPED], self.mapping[MAX_MAPPED:], strict=True) if z}

    def site_mask(self, n_sites: int) -> np.ndarray | None:
        """(n_sites,) bool, the sites that may be replaced; None = all."""
        if not any(self.sites):
            return None
        return np.unpackbits(np.frombuffer(self.sites, np.uint8), bitorder="little")[:n_sites].astype(bool)


def recipe_batch(
    parent: np.ndarray | int,
    generator: int,
    mapping: np.ndarray,
    sites: np.ndarray | None = None,
    seed: np.ndarray | int = 0,
    volume_factor: np.ndarray | float = 1.0,
    space_group: np.ndarray | int = 0,
) -> pa.RecordBatch:
    """A batch of n recipes.

    mapping: (n, 12) uint8 from `pack_mapping`, or atoms from `pack_compositions` where parent is NO_PARENT.
    sites: (n, 16) uint8 or None. The others: one value for all rows, or (n,).
    """
    n = len(mapping)

    def column(values: np.ndarray | float, dtype: type) -> pa.Array:
        return pa.array(np.broadcast_to(np.asarray(values, dtype), n))

    return pa.RecordBatch.from_arrays(
        [
            column(parent, np.uint32),
            column(generator, np.uint8),
            _fixed_binary(mapping),
            _fixed_binary(np.zeros((n, 16), np.uint8) if sites is None else sites),
            column(seed, np.uint64),
            column(volume_factor, np.float32),
            column(space_group, np.uint8),
        ],
        schema=RECIPE_SCHEMA,
    )


def pack_mapping(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(n, 12) uint8 mappings of `old` (k,) or (n, k) to `new` (n, k) atomic numbers, k <= 6; equal pairs drop out."""
    new = np.asarray(new, np.uint8)
    old = np.broadcast_to(np.asarray(old, np.uint8), new.shape)
    changed = old != new
    order = np.argsort(np.where(changed, old, 255), axis=1, kind="stable")
    mapping = np.zeros((len(new), 2 * MAX_MAPPED), np.uint8)
    k = new.shape[1]
    mapping[:, :k] = np.take_along_axis(np.where(changed, old, 0), order, axis=1)
    mapping[:, MAX_MAPPED : MAX_MAPPED + k] = np.take_along_axis(np.where(changed, new, 0), order, axis=1)
    return mapping


def recipe_rows(batch: pa.RecordBatch | pa.Table) -> list[Recipe]:
    """The rows of a batch."""
    return [Recipe(*row) for row in zip(*(batch.column(name).to_pylist() for name in RECIPE_SCHEMA.names), strict=True)]


def expand_recipe(recipe: Recipe, parents: ParentTable) -> Crystal:
    """The candidate: the parent with its elements exchanged at the recipe's sites and its cell rescaled (`volume.py`).

    Coordinates, site order and cell shape are the parent's; its volume is multiplied by the recipe's factor too. Raises
    IndexError for a parent row that does not exist.
    """
    crystal = parents.crystals[recipe.parent]
    lookup = np.arange(256, dtype=np.uint8)
    for old, new in recipe.replacements.items():
        lookup[old] = new
    numbers = lookup[crystal.numbers]
    mask = recipe.site_mask(crystal.n_sites)
    if mask is not None:
        numbers = np.where(mask, numbers, crystal.numbers)
    factor = recipe.volume_factor * volume_factor(crystal.numbers, numbers, parents.oxidation[recipe.parent])
    return Crystal(crystal.lattice * factor ** (1 / 3), crystal.frac_coords, numbers)


def recipe_digests(batch: pa.RecordBatch | pa.Table, parents: ParentTable) -> list[bytes]:
    """16-byte identities (BLAKE2b) of the recipes.

    They hash the parent's id, not its row, so that a candidate keeps its identity when the parent table grows.
    """
    parent, packed = _numpy_column(batch, "parent"), _packed(batch)
    ids = {row: b"" if row == NO_PARENT else parents.ids[row].encode() for row in np.unique(parent).tolist()}
    return [
        hashlib.blake2b(ids[row] + b"\0" + packed[_WIDTH * i : _WIDTH * (i + 1)], digest_size=16).digest()
        for i, row in enumerate(parent.tolist())
    ]


def cell_atoms(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """(n, 95) int32 atoms of each element (column = atomic number) in the cells of recipes without a parent."""
    return unpack_compositions(_bytes_column(batch, "mapping", 12))


def recipe_compositions(batch: pa.RecordBatch | pa.Table, parents: ParentTable) -> np.ndarray:
    """(n, 95) int32 atoms of each element (column = atomic number) in the candidates, without building them."""
    parent, mapping = _numpy_column(batch, "parent"), _bytes_column(batch, "mapping", 12)
    alone = parent == NO_PARENT
    if alone.all():
        return cell_atoms(batch)
    if alone.any():
        compositions = np.empty((len(parent), 95), np.int32)
        compositions[alone] = unpack_compositions(mapping[alone])
        compositions[~alone] = recipe_compositions(batch.filter(pa.array(~alone)), parents)
        return compositions
    sites = _bytes_column(batch, "sites", 16)
    slot_numbers, slot_counts, slot_masks = (array[parent] for array in parents.element_slots)
    partial = sites.any(axis=1)
    selected = slot_counts.copy()
    selected[partial] = np.bitwise_count(slot_masks[partial] & sites[partial, None, :]).sum(axis=2, dtype=np.int32)
    compositions = np.zeros((len(parent), 256), np.int32)
    row = np.arange(len(parent))
    for slot in range(slot_numbers.shape[1]):
        old = slot_numbers[:, slot]
        hit = (mapping[:, :MAX_MAPPED] == old[:, None]) & (old > 0)[:, None]
        new = np.where(hit, mapping[:, MAX_MAPPED:], 0).max(axis=1)
        moved = np.where(new > 0, selected[:, slot], 0)
        compositions[row, old] += slot_counts[:, slot] - moved
        compositions[row, new] += moved
    compositions[:, 0] = 0
    return compositions[:, :95]


def recipe_formulas(batch: pa.RecordBatch | pa.Table, parents: ParentTable) -> list[str]:
    """Reduced formulas (pymatgen's string) of the candidates, without building them."""
    compositions = recipe_compositions(batch, parents)
    compositions //= np.gcd.reduce(compositions, axis=1)[:, None]
    unique, inverse = np.unique(compositions.astype(np.uint16), axis=0, return_inverse=True)
    formulas = [formula_of_composition(tuple((z, int(n)) for z, n in enumerate(row) if n)) for row in unique.tolist()]
    return [formulas[i] for i in inverse.reshape(-1).tolist()]


def _fixed_binary(values: np.ndarray) -> pa.Array:
    values = np.ascontiguousarray(values, np.uint8)
    return pa.Array.from_buffers(pa.binary(values.shape[1]), len(values), [None, pa.py_buffer(values)])


def _numpy_column(batch: pa.RecordBatch | pa.Table, name: str) -> np.ndarray:
    return batch.column(name).to_numpy() if isinstance(batch, pa.Table) else np.asarray(batch.column(name))


def _bytes_column(batch: pa.RecordBatch | pa.Table, name: str, width: int) -> np.ndarray:
    column = batch.column(name)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    data = column.buffers()[1]
    values = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return values[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)


_WIDTH = sum(field.type.bit_width // 8 for field in RECIPE_SCHEMA) - 4


def _packed(batch: pa.RecordBatch | pa.Table) -> bytes:
    """42 bytes a row: all but the parent, little-endian."""

    def raw(name: str, dtype: str) -> np.ndarray:
        return _numpy_column(batch, name).astype(dtype)[:, None].view(np.uint8)

    columns = [raw("generator", "u1"), _bytes_column(batch, "mapping", 12), _bytes_column(batch, "sites", 16)]
    columns += [raw("seed", "<u8"), raw("volume_factor", "<f4"), raw("space_group", "u1")]
    return np.hstack(columns).tobytes()
