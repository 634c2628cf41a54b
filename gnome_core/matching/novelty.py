"""Whether a crystal is a structure already held: within one composition, or in a whole table of entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from gnome_core.compositions.formulas import Composition, composition_key
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.fits import fit
from gnome_core.matching.reduced import reduce_crystal, reduce_crystals


class KnownStructures:
    """The structures held of one composition (or of several: cells of other atoms are passed over at no cost)."""

    def __init__(self, crystals: Sequence[Crystal]):
        self._reduced = reduce_crystals(crystals)

    def find(self, crystal: Crystal) -> int | None:
        """Position of the first held structure that matches the crystal (StructureMatcher's defaults), or None."""
        reduced = reduce_crystal(crystal)
        return next((position for position, held in enumerate(self._reduced) if fit(held, reduced)), None)


class KnownEntries:
    """The structures of a table of entries (columns id, lattice, frac_coords, numbers), found by composition first.

    Structures of a composition are reduced when the first crystal of it is asked for.
    """

    def __init__(self, entries: pa.Table):
        self._entries = entries.select(["id", "lattice", "frac_coords", "numbers"]).combine_chunks()
        self._rows: dict[Composition, list[int]] = defaultdict(list)
        for row, numbers in enumerate(self._entries["numbers"].to_pylist()):
            self._rows[composition_key(numbers)].append(row)
        self._known: dict[Composition, KnownStructures] = {}

    def same_composition(self, crystal: Crystal) -> list[str]:
        """Ids of the entries of the crystal's composition."""
        return [self._entries["id"][row].as_py() for row in self._rows.get(composition_key(crystal.numbers), [])]

    def find(self, crystal: Crystal) -> str | None:
        """Id of the first entry that is the crystal's structure, or None: it is new."""
        key = composition_key(crystal.numbers)
        rows = self._rows.get(key, [])
        if not rows:
            return None
        if key not in self._known:
            self._known[key] = KnownStructures(crystals_from_batch(self._entries.take(rows)))
        position = self._known[key].find(crystal)
        return None if position is None else self._entries["id"][rows[position]].as_py()
