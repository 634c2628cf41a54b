"""Prototypes that the snapshot does not hold, among new stable crystals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.matching.prototypes import SYMPREC, protostructure_label, prototype_of

SCHEMA = pa.schema(
    [
        pa.field("prototype", pa.string()),
        pa.field("novel", pa.bool_()),  # no snapshot entry has it
        pa.field("crystals", pa.int64()),  # new stable crystals of it
        pa.field("first_round", pa.int32()),
        pa.field("elements", pa.int32()),
        pa.field("id", pa.string()),  # one of them
        pa.field("formula", pa.string()),
        pa.field("label", pa.string()),
    ]
)


def analyse(entries: pa.Table, track: Track = untracked) -> Analysis:
    """Prototypes of the new stable crystals, novel where no entry of the snapshot has them.

    entries: id, formula, lattice, frac_coords, numbers, round (0 = snapshot), on_hull.
    """
    new = pc.and_(pc.greater(entries["round"], 0), entries["on_hull"])
    known_rows = entries.filter(pc.equal(entries["round"], 0))
    known = Counter(filter(None, map(_prototype, track(crystals_from_batch(known_rows), "snapshot prototypes"))))
    stable = entries.filter(new).sort_by([("round", "ascending"), ("id", "ascending")])
    found: dict[str, dict] = {}
    unlabelled = 0
    for row, crystal in zip(
        stable.to_pylist(), track(crystals_from_batch(stable), "prototypes of new crystals"), strict=True
    ):
        label = protostructure_label(crystal)
        if label is None:
            unlabelled += 1
            continue
        prototype = prototype_of(label)
        record = found.setdefault(
            prototype,
            {
                "prototype": prototype,
                "novel": prototype not in known,
                "crystals": 0,
                "first_round": row["round"],
                "elements": len(np.unique(crystal.numbers)),
                **{name: row[name] for name in ("id", "formula")},
                "label": label,
            },
        )
        record["crystals"] += 1
    rows = sorted(found.values(), key=lambda row: (not row["novel"], -row["crystals"], row["prototype"]))
    return Analysis(
        "prototypes",
        "Novel prototypes",
        {"prototypes": pa.Table.from_pylist(rows, SCHEMA)},
        {
            "prototypes in the snapshot": len(known),
            "prototypes of new stable crystals": len(rows),
            "novel (lower bound)": sum(row["novel"] for row in rows),
            "new stable crystals of novel prototypes": sum(row["crystals"] for row in rows if row["novel"]),
            "crystals without a label": unlabelled,
        },
        (
            f"A prototype is an AFLOW-like protostructure label without its elements (moyopy, symprec {SYMPREC} Å): "
            "space group, Pearson symbol and Wyckoff positions. XtalFinder also compares geometry and separates more, "
            "so the count of novel prototypes is a lower bound.",
        ),
    )


def _prototype(crystal) -> str | None:
    label = protostructure_label(crystal)
    return None if label is None else prototype_of(label)


def xtalfinder_command(folder: str) -> str:
    """The shell line that compares a folder of POSCAR files with XtalFinder, for those who have AFLOW."""
    return f"aflow --compare_structures --directory={folder} --print=json"
