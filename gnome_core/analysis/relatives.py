"""Known relatives of a crystal: the same one of similar elements, or a solid solution that it is an ordering of."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gnome_core.analysis.likeness import can_mix, families
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.compositions.known import KnownCompositions
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import symmetry_dataset
from gnome_core.matching.novelty import KNOWN_STRUCTURE, KnownCrystals
from gnome_core.matching.prototypes import SYMPREC, protostructure_label, prototype_of

if TYPE_CHECKING:
    from moyopy import MoyoDataset

# Å: an ordering's atoms may have relaxed so far from the sites of the solid solution.
RELAXED = 0.2


def as_families(crystal: Crystal) -> Crystal:
    """The crystal with every element replaced by the first of its family."""
    return Crystal(crystal.lattice, crystal.frac_coords, families()[crystal.numbers])


class KnownFamilies:
    """Known crystals, whose elements count by family. entries: columns id, lattice, frac_coords, numbers."""

    def __init__(self, entries: pa.Table):
        numbers = entries["numbers"].combine_chunks()
        first = families()[numbers.values.to_numpy(zero_copy_only=False)]
        renamed = pa.ListArray.from_arrays(numbers.offsets, pa.array(first))
        columns = entries.set_column(entries.column_names.index("numbers"), "numbers", renamed)
        self._known = KnownCrystals(columns, KnownCompositions.union([]))

    def find(self, crystal: Crystal) -> str | None:
        """Id of a known crystal that is this one but for elements of the same families, or None.

        Structures are compared as novelty compares them, by StructureMatcher's defaults, which scale volumes.
        """
        level, source = self._known.novelty(as_families(crystal))
        return source if level == KNOWN_STRUCTURE else None


class KnownSolutions:
    """Known crystals as parents of orderings. entries: columns id, lattice, frac_coords, numbers."""

    def __init__(self, entries: pa.Table):
        self._entries = entries.select(["id", "lattice", "frac_coords", "numbers"]).combine_chunks()
        self._symmetries: dict[int, tuple[int, int] | None] = {}
        self._prototypes: dict[int, str | None] = {}

    @cached_property
    def _compositions(self) -> np.ndarray:
        """(m, 95) int, reduced."""
        counts = atom_counts(self._entries["numbers"]).astype(np.int32)
        return counts // np.gcd.reduce(counts, axis=1)[:, None]

    def find(self, crystal: Crystal, charges: dict[int, float] | None) -> tuple[str, str] | None:
        """("Ta, Cr", id of the parent), or None. charges: of the crystal's composition, where they are known.

        Two elements that `can_mix` are taken for one; they are mixed when an orbit of the crystal so made (moyopy,
        RELAXED) holds sites of both, so that it is more symmetric than the ordering. Its prototype must be that of a
        known crystal in which one element, whichever, stands for the two and the others are the same, in number too.
        """
        for a, b in combinations(np.unique(crystal.numbers).tolist(), 2):
            if not can_mix(a, b, charges):
                continue
            mixed = Crystal(crystal.lattice, crystal.frac_coords, np.where(crystal.numbers == b, a, crystal.numbers))
            rows = self._of_kind(mixed, a)
            dataset = symmetry_dataset(mixed, RELAXED) if len(rows) else None
            if dataset is None or not _on_one_orbit(dataset, crystal.numbers == a, crystal.numbers == b):
                continue
            parent = self._of_prototype(rows.tolist(), mixed, _symmetry(dataset))
            if parent is not None:
                return f"{SYMBOLS[a]}, {SYMBOLS[b]}", self._entries["id"][parent].as_py()
        return None

    def _of_kind(self, mixed: Crystal, element: int) -> np.ndarray:
        """Rows of known crystals of the same reduced composition, but for what stands in for the element."""
        counts = np.bincount(mixed.numbers, minlength=self._compositions.shape[1])
        counts = counts // np.gcd.reduce(counts)
        others = np.flatnonzero(counts)
        others = others[others != element]
        same = (self._compositions[:, others] == counts[others]).all(axis=1)
        same &= self._compositions.sum(axis=1) == counts.sum()
        same &= (self._compositions > 0).sum(axis=1) == len(others) + 1
        return np.flatnonzero(same)

    def _of_prototype(self, rows: list[int], mixed: Crystal, symmetry: tuple[int, int]) -> int | None:
        """The first row of the crystal's prototype. A label takes ten times as long as the symmetry."""
        alike = [row for row in rows if self._symmetry(row) == symmetry]
        prototype = _prototype(mixed, RELAXED) if alike else None
        return next((row for row in alike if prototype is not None and self._prototype(row) == prototype), None)

    def _symmetry(self, row: int) -> tuple[int, int] | None:
        if row not in self._symmetries:
            dataset = symmetry_dataset(self._crystal(row), SYMPREC)
            self._symmetries[row] = None if dataset is None else _symmetry(dataset)
        return self._symmetries[row]

    def _prototype(self, row: int) -> str | None:
        if row not in self._prototypes:
            self._prototypes[row] = _prototype(self._crystal(row))
        return self._prototypes[row]

    def _crystal(self, row: int) -> Crystal:
        return crystals_from_batch(self._entries.slice(row, 1))[0]


def _symmetry(dataset: MoyoDataset) -> tuple[int, int]:
    """Space group, sites of the primitive cell."""
    return dataset.number, len(dataset.prim_std_cell.numbers)


def _on_one_orbit(dataset: MoyoDataset, first: np.ndarray, second: np.ndarray) -> bool:
    """Whether some site of `first` and some of `second`, (n,) bool each, are equivalent by symmetry."""
    orbits = np.array(dataset.orbits)
    return bool(np.isin(orbits[first], orbits[second]).any())


def _prototype(crystal: Crystal, symprec: float = SYMPREC) -> str | None:
    label = protostructure_label(crystal, symprec)
    return None if label is None else prototype_of(label)
