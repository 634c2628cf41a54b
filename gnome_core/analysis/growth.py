"""Stable crystals by round and by number of elements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from gnome_core.analysis.result import Analysis
from gnome_core.stability.hull import ON_HULL


def analyse(hulls: Mapping[int, pa.Table]) -> Analysis:
    """Counts of stable crystals after every round.

    hulls: round -> entries measured against that round's hull: formula, chemsys, round (0 = snapshot), on_hull,
    e_above_hull_snapshot.

    GNoME counts both ways: 2.2 million structures stable against the snapshot, 381,000 on the hull of them all.
    """
    rows = []
    for round_, hull in sorted(hulls.items()):
        stable = hull["on_hull"].to_numpy(zero_copy_only=False).astype(bool)
        found = hull["round"].to_numpy()
        below = _below_snapshot(hull)
        elements = n_elements(hull)
        for k in np.unique(elements).tolist():
            rows.append(
                {
                    "round": round_,
                    "elements": k,
                    "entries": int((elements == k).sum()),
                    "stable": int((stable & (elements == k)).sum()),
                    "stable_new": int((stable & (elements == k) & (found > 0)).sum()),
                    "new_below_snapshot": int((below & (elements == k)).sum()),
                    "stable_found_in_round": int((stable & (elements == k) & (found == round_) & (found > 0)).sum()),
                }
            )
    table = pa.Table.from_pylist(rows, SCHEMA)
    newest = max(hulls, default=0)
    last = [row for row in rows if row["round"] == newest]
    beneath = hulls[newest].filter(pa.array(_below_snapshot(hulls[newest])))["formula"].to_pylist() if hulls else []
    return Analysis(
        "growth",
        "Growth of the stable set",
        {"counts": table},
        {
            "stable, snapshot": sum(row["stable"] for row in rows if row["round"] == 0),
            f"stable, round {newest}": sum(row["stable"] for row in last),
            "of these new": sum(row["stable_new"] for row in last),
            "new, stable against the snapshot": len(beneath),
            "their compositions": len(set(beneath)),
        },
        (
            "Counted against the hull of each round: a crystal that a later one displaces is no longer counted there. "
            "Stable against the snapshot: at or below the snapshot's own hull (within 0.05 meV/atom), whatever else "
            "the rounds found; several structures of one composition may be. One a composition is on the newest hull.",
        ),
    )


def _below_snapshot(hull: pa.Table) -> np.ndarray:
    """(n,) bool: entries of rounds at or below the snapshot's hull."""
    return (hull["round"].to_numpy() > 0) & (hull["e_above_hull_snapshot"].to_numpy() <= ON_HULL)


def n_elements(table: pa.Table) -> np.ndarray:
    """(n,) elements of each row, from its chemsys ("Li-O")."""
    return np.array([chemsys.count("-") + 1 for chemsys in table["chemsys"].to_pylist()], np.int64)


SCHEMA = pa.schema(
    [
        pa.field("round", pa.int32()),
        pa.field("elements", pa.int32()),
        pa.field("entries", pa.int64()),
        pa.field("stable", pa.int64()),
        pa.field("stable_new", pa.int64()),
        pa.field("new_below_snapshot", pa.int64()),  # structures of rounds at or below the snapshot's own hull
        pa.field("stable_found_in_round", pa.int64()),
    ]
)
