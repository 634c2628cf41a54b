"""Whether a crystal of a known composition is a structure already held, for polymorph work."""

from __future__ import annotations

from collections.abc import Sequence

from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.clusters import Matcher


class KnownStructures:
    """The structures held of one composition (or of several: cells of other atoms are passed over at no cost)."""

    def __init__(self, crystals: Sequence[Crystal]):
        self._matcher = Matcher()
        self._reduced = [self._matcher.reduce(crystal) for crystal in crystals]

    def find(self, crystal: Crystal) -> int | None:
        """Position of the first held structure that matches the crystal (StructureMatcher's defaults), or None."""
        reduced = self._matcher.reduce(crystal)
        for position, held in enumerate(self._reduced):
            if self._matcher.fit(held, reduced):
                return position
        return None
