"""The parent table: the known crystals that candidates are made from, decorated with oxidation states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import Composition, composition_key, formula_of_composition
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.charge_guess import most_probable_charges
from gnome_core.generation.species import species_model

PARENT_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,
        pa.field("formula", pa.string(), nullable=False),  # pymatgen's reduced formula
        pa.field("oxidation", pa.list_(pa.field("element", pa.int8())), nullable=False),  # one charge a site
    ],
    metadata={"schema": "gnome.parent", "schema_version": "1", "unit.lattice": "angstrom", "unit.oxidation": "e"},
)


@lru_cache(maxsize=1 << 17)
def oxidation_states(key: Composition) -> dict[int, int]:
    """Charge of each element (atomic number -> e) in a reduced composition ((Z, count), ...).

    pymatgen's most probable neutral guess, an average over the element's sites, rounded to the nearest species of the
    extended list; 0 for every element when no guess is neutral.
    """
    guess = most_probable_charges(key)
    if guess is None:
        return {z: 0 for z, _ in key}
    model = species_model("extended")
    charges = {}
    for z, _ in key:
        row = model.nearest(z, guess[z])
        charges[z] = 0 if row is None else int(model.charges[row])
    return charges


def stoichiometry(counts: np.ndarray) -> tuple[int, ...]:
    """Atoms of each element in the formula unit, ascending: (1, 2, 4) of MgAl2O4. counts: (k,) atoms in a cell."""
    return tuple(np.sort(counts // np.gcd.reduce(counts)).tolist())


@lru_cache(maxsize=1 << 14)
def _merged(counts: tuple[int, ...]) -> frozenset[tuple[int, ...]]:
    """The stoichiometries of all ways to take elements of a stoichiometry together."""
    ways: set[tuple[int, ...]] = {()}
    for n in counts:
        joined = {(*way[:i], way[i] + n, *way[i + 1 :]) for way in ways for i in range(len(way))}
        ways = joined | {(*way, n) for way in ways}
    return frozenset(stoichiometry(np.array(way)) for way in ways)


@dataclass(frozen=True, eq=False)
class ParentTable:
    """Parents by row number, which is what recipes refer to. A worker loads it once per process.

    ids: entry ids. crystals: their crystals. oxidation: per parent (n_sites,) int8, the charge of each site, equal on
    all sites of an element. formulas: reduced formulas. given: crystals that files gave the round, by content key: no
    parents, but candidates as they stand (`given.py`).
    """

    ids: list[str]
    crystals: list[Crystal]
    oxidation: list[np.ndarray]
    formulas: list[str]
    given: Mapping[int, Crystal] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_crystals(cls, ids: Sequence[str], crystals: Sequence[Crystal]) -> ParentTable:
        """Decorate the crystals: one oxidation guess a reduced composition."""
        oxidation, formulas = [], []
        for crystal in crystals:
            key = composition_key(crystal.numbers)
            charges = oxidation_states(key)
            oxidation.append(np.array([charges[z] for z in crystal.numbers.tolist()], np.int8))
            formulas.append(formula_of_composition(key))
        return cls(list(ids), list(crystals), oxidation, formulas)

    @classmethod
    def from_entries(cls, entries: pa.Table | pa.RecordBatch) -> ParentTable:
        """Every row of a table with the columns of `CRYSTAL_FIELDS` (an entries table, say) becomes a parent."""
        return cls.from_crystals(entries.column("id").to_pylist(), crystals_from_batch(entries))

    def to_batch(self) -> pa.RecordBatch:
        """The table as one batch of `PARENT_SCHEMA`."""
        ends = np.cumsum([0, *(len(charges) for charges in self.oxidation)]).astype(np.int32)
        flat = np.concatenate(self.oxidation) if self.oxidation else np.empty(0, np.int8)
        oxidation = pa.ListArray.from_arrays(pa.array(ends), pa.array(flat), type=PARENT_SCHEMA.field("oxidation").type)
        return record_batch(PARENT_SCHEMA, self.ids, self.crystals, formula=self.formulas, oxidation=oxidation)

    @classmethod
    def from_batch(cls, table: pa.Table | pa.RecordBatch) -> ParentTable:
        """The inverse of `to_batch`."""
        crystals = crystals_from_batch(table)
        column = table.column("oxidation")
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.int8)
        oxidation = np.split(flat, np.cumsum([c.n_sites for c in crystals])[:-1]) if crystals else []
        return cls(table.column("id").to_pylist(), crystals, oxidation, table.column("formula").to_pylist())

    def save(self, path: str) -> None:
        """Write Parquet to a local path or any fsspec URL."""
        with fsspec.open(path, "wb") as file:
            pq.write_table(pa.Table.from_batches([self.to_batch()]), file, compression="zstd")

    @classmethod
    def load(cls, path: str) -> ParentTable:
        """Read what `save` wrote."""
        with fsspec.open(path, "rb") as file:
            return cls.from_batch(pq.read_table(file))

    def species(self, row: int) -> tuple[tuple[int, int], ...]:
        """((atomic number, charge), ...) of the parent, one per element, atomic numbers ascending."""
        pairs = zip(self.crystals[row].numbers.tolist(), self.oxidation[row].tolist(), strict=True)
        return tuple(sorted(dict(pairs).items()))

    @cached_property
    def elements(self) -> list[int]:
        """Atomic numbers present in any parent, ascending."""
        return np.unique(np.concatenate([c.numbers for c in self.crystals])).tolist() if self.crystals else []

    @cached_property
    def by_stoichiometry(self) -> dict[tuple[int, ...], list[int]]:
        """`stoichiometry` -> rows, ascending, of the parents that have it once some of their ions are one element."""
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, counts in enumerate(self.element_slots[1]):
            for merged in _merged(stoichiometry(counts[counts > 0])):
                rows.setdefault(merged, []).append(row)
        return rows

    @cached_property
    def element_slots(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compositions and element positions of all parents in padded arrays, for work on whole recipe batches.

        numbers: (p, m) uint8 atomic numbers ascending, 0 = no element. counts: (p, m) int32.
        masks: (p, m, 16) uint8, bit i of the 128 (little-endian) set where site i holds the element; parents of more
        than 128 sites have all-zero masks, as no recipe selects sites of them.
        """
        keys = [np.unique(c.numbers) for c in self.crystals]
        width = max((len(key) for key in keys), default=1)
        numbers = np.zeros((len(self), width), np.uint8)
        counts = np.zeros((len(self), width), np.int32)
        masks = np.zeros((len(self), width, 16), np.uint8)
        for row, (crystal, key) in enumerate(zip(self.crystals, keys, strict=True)):
            held = crystal.numbers == key[:, None]
            numbers[row, : len(key)] = key
            counts[row, : len(key)] = held.sum(axis=1)
            if crystal.n_sites <= 128:
                bits = np.packbits(held, axis=1, bitorder="little")
                masks[row, : len(key), : bits.shape[1]] = bits
        return numbers, counts, masks
