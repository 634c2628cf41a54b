"""Which stable crystals of one collection another one does not hold."""

from __future__ import annotations

import pyarrow as pa

from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.matching.novelty import KnownEntries

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("round", pa.int32()),
        pa.field("novelty", pa.string()),  # "new composition", "new structure" or "known"
        pa.field("match", pa.string()),  # the entry that is the same structure
    ]
)


def analyse(crystals: pa.Table, known: pa.Table, track: Track = untracked) -> Analysis:
    """Each crystal's composition, then its structure (StructureMatcher's defaults), looked up among the known ones.

    crystals: id, formula, chemsys, round and structure columns. known: id and structure columns.
    """
    held = KnownEntries(known)
    rows = []
    for row, crystal in zip(crystals.to_pylist(), track(crystals_from_batch(crystals), "novelty"), strict=True):
        match = held.find(crystal)
        novelty = "known" if match else ("new structure" if held.same_composition(crystal) else "new composition")
        names = ("id", "formula", "chemsys", "round")
        rows.append({**{name: row[name] for name in names}, "novelty": novelty, "match": match})
    counts = {kind: sum(row["novelty"] == kind for row in rows) for kind in KINDS}
    return Analysis(
        "novelty",
        "Novelty",
        {"crystals": pa.Table.from_pylist(rows, SCHEMA)},
        {"crystals": len(rows), "known crystals": len(known), **counts},
        ("A structure is known when pymatgen's StructureMatcher with its default tolerances finds it.",),
    )


KINDS = ("new composition", "new structure", "known")
