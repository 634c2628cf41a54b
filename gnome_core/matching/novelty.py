"""How new a crystal is: a structure that is held already, another of a known composition, or a new composition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.known import KnownCompositions, composition_hashes, crystal_hashes
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.fits import fit
from gnome_core.matching.reduced import reduce_crystal, reduce_crystals

NEW, KNOWN_COMPOSITION, KNOWN_STRUCTURE = LEVELS = ("new", "known composition", "known structure")


class Novelty(NamedTuple):
    """level: one of LEVELS. source: the entry that is the same structure, or an entry of the same composition and the
    lists that name it ("mp-1265, oqmd"); None for what is new."""

    level: str
    source: str | None


class KnownStructures:
    """The structures held of one composition (or of several: cells of other atoms are passed over at no cost)."""

    def __init__(self, crystals: Sequence[Crystal]):
        self._reduced = reduce_crystals(crystals)

    def find(self, crystal: Crystal) -> int | None:
        """Position of the first held structure that matches the crystal (StructureMatcher's defaults), or None."""
        reduced = reduce_crystal(crystal)
        return next((position for position, held in enumerate(self._reduced) if fit(held, reduced)), None)


class KnownCrystals:
    """What is known: the crystals of a table of entries (columns id, lattice, frac_coords, numbers), and the
    compositions that lists name.

    Structures of a composition are reduced when the first crystal of it is asked for.
    """

    def __init__(self, entries: pa.Table, listed: KnownCompositions):
        self._entries = entries.select(["id", "lattice", "frac_coords", "numbers"]).combine_chunks()
        hashes = crystal_hashes(self._entries["numbers"])
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._structures: dict[int, KnownStructures] = {}
        self._listed = listed

    def novelty(self, crystal: Crystal) -> Novelty:
        """Structures are compared by StructureMatcher's defaults; the first entry that fits is the source."""
        key = composition_hashes(atom_counts([crystal.numbers]))
        first, last = (int(np.searchsorted(self._hashes, key, side)[0]) for side in ("left", "right"))
        rows = self._order[first:last]
        if len(rows) and (position := self._same_structure(int(key[0]), rows, crystal)) is not None:
            return Novelty(KNOWN_STRUCTURE, self._id(rows[position]))
        known_to = [*map(self._id, rows[:1]), *self._listed.names(int(self._listed.find(key)[0]))]
        return Novelty(KNOWN_COMPOSITION, ", ".join(known_to)) if known_to else Novelty(NEW, None)

    def _same_structure(self, key: int, rows: np.ndarray, crystal: Crystal) -> int | None:
        if key not in self._structures:
            self._structures[key] = KnownStructures(crystals_from_batch(self._entries.take(pa.array(rows))))
        return self._structures[key].find(crystal)

    def _id(self, row: int) -> str:
        return self._entries["id"][int(row)].as_py()
