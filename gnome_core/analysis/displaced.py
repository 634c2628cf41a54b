"""Snapshot entries that were on the hull and no longer are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.result import Analysis
from gnome_core.stability.hull import Hull
from gnome_core.stability.reactions import decomposition_reaction

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("displaced_in_round", pa.int32()),
        pa.field("e_above_hull", pa.float64()),  # now, eV/atom
        pa.field("reaction", pa.string()),
        pa.field("displaced_by", pa.string()),  # ids of the new crystals among the products
    ],
    metadata={"unit.e_above_hull": "eV/atom"},
)


def analyse(hulls: Mapping[int, pa.Table], hull: Hull) -> Analysis:
    """The stable entries of the snapshot that later rounds pushed off the hull, each with what it decomposes into.

    hulls: round -> entries measured against that round's hull (id, formula, chemsys, round, e_above_hull, on_hull).
    hull: the newest.
    """
    newest = max(hulls)
    on_hull = {round_: set(table.filter(table["on_hull"])["id"].to_pylist()) for round_, table in hulls.items()}
    first = on_hull[min(hulls)]
    gone = sorted(first - on_hull[newest])
    last = hulls[newest]
    found = dict(zip(last["id"].to_pylist(), last["round"].to_pylist(), strict=True))
    rows = last.filter(pc.is_in(last["id"], pa.array(gone, pa.string()))).sort_by([("e_above_hull", "descending")])
    positions = pc.index_in(rows["id"].combine_chunks(), hull.ids).to_pylist() if len(rows) else []
    records = []
    for row, position in zip(rows.to_pylist(), positions, strict=True):
        products = [hull.ids[p.entry].as_py() for p in hull.decomposition(hull.compositions([position])[0])]
        records.append(
            {
                **{name: row[name] for name in ("id", "formula", "chemsys", "e_above_hull")},
                # The last round that it entered on the hull was the one before.
                "displaced_in_round": 1 + max(r for r, ids in on_hull.items() if row["id"] in ids),
                "reaction": decomposition_reaction(hull, position),
                "displaced_by": " ".join(id_ for id_ in products if found[id_] > 0),
            }
        )
    distances = np.array([record["e_above_hull"] for record in records])
    return Analysis(
        "displaced",
        "Displaced snapshot entries",
        {"displaced": pa.Table.from_pylist(records, SCHEMA)},
        {
            "stable in the snapshot": len(first),
            "displaced": len(records),
            "median distance now (meV/atom)": round(1000 * float(np.median(distances)), 1) if len(records) else None,
        },
        ("On the snapshot's own hull within 0.05 meV/atom (one entry a composition), and off the newest one.",),
    )
