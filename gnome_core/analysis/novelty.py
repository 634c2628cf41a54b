"""Which stable crystals of one collection another one does not hold."""

from __future__ import annotations

import pyarrow as pa

from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.compositions.known import KnownCompositions
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.matching.novelty import LEVELS, KnownCrystals

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("round", pa.int32()),
        pa.field("novelty", pa.string()),  # one of LEVELS
        pa.field("novelty_source", pa.string()),  # the entry that is the same structure, or of the same composition
    ]
)


def analyse(crystals: pa.Table, known: pa.Table, track: Track = untracked) -> Analysis:
    """Each crystal's composition, then its structure (StructureMatcher's defaults), looked up among the known ones.

    crystals: id, formula, chemsys, round and structure columns. known: id and structure columns.
    """
    held = KnownCrystals(known, KnownCompositions.union([]))
    rows = []
    for row, crystal in zip(crystals.to_pylist(), track(crystals_from_batch(crystals), "novelty"), strict=True):
        level, source = held.novelty(crystal)
        names = ("id", "formula", "chemsys", "round")
        rows.append({**{name: row[name] for name in names}, "novelty": level, "novelty_source": source})
    counts = {level: sum(row["novelty"] == level for row in rows) for level in LEVELS}
    return Analysis(
        "novelty",
        "Novelty",
        {"crystals": pa.Table.from_pylist(rows, SCHEMA)},
        {"crystals": len(rows), "known crystals": len(known), **counts},
        ("A structure is known when pymatgen's StructureMatcher with its default tolerances finds it.",),
    )
