"""Layered crystals: two-dimensional networks of bonds (Cheon et al., Nano Lett. 17, 1915, 2017)."""

from __future__ import annotations

import warnings
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal

TOLERANCE = 0.45  # Å over the sum of two radii that still makes a bond
LAYERED = "2D"

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("round", pa.int32()),
        pa.field("cheon", pa.string()),  # "0D" .. "3D", "intercalated ion", "intercalated molecule", "failed"
        pa.field("larsen", pa.int32()),  # 0..3 by JmolNN bonds; another definition, never mixed with the first
        pa.field("layered", pa.bool_()),
    ]
)


def analyse(entries: pa.Table, track: Track = untracked) -> Analysis:
    """Dimensionality of the stable crystals of a table of entries (ENTRY_SCHEMA and on_hull)."""
    stable = entries.filter(entries["on_hull"])
    crystals = crystals_from_batch(stable)
    cheon, larsen = [], []
    for crystal in track(crystals, "dimensionality"):
        cheon.append(cheon_dimensionality(crystal))
        larsen.append(larsen_dimensionality(crystal))
    table = pa.table(
        {
            **{name: stable[name] for name in ("id", "formula", "chemsys", "round")},
            "cheon": pa.array(cheon, pa.string()),
            "larsen": pa.array(larsen, pa.int32()),
            "layered": pa.array([kind == LAYERED for kind in cheon], pa.bool_()),
        },
        schema=SCHEMA,
    )
    new = table.filter(pc.greater(table["round"], 0))
    counts = Counter(cheon)
    return Analysis(
        "layered",
        "Layered crystals",
        {"crystals": table},
        {
            "stable crystals": len(table),
            "layered": counts[LAYERED],
            "layered and new": pc.sum(new["layered"]).as_py() or 0,
            "failed": counts["failed"],
        },
        (
            f"Cheon's algorithm with bonds up to {TOLERANCE} Å over the sum of Jmol radii; only “2D” counts as "
            "layered. It calls rock salt and olivine “intercalated ion”. Larsen's number (Jmol bonds) is given beside "
            "it and counted nowhere.",
        ),
    )


def cheon_dimensionality(crystal: Crystal) -> str:
    """ "0D" to "3D", "intercalated ion" or "intercalated molecule"; "failed" where the algorithm gives no answer."""
    from pymatgen.analysis.dimensionality import get_dimensionality_cheon

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = get_dimensionality_cheon(to_structure(crystal), tolerance=TOLERANCE)
    except Exception:  # pymatgen raises whatever its graph search meets; one crystal must not end the count
        return "failed"
    return kind or "failed"


def larsen_dimensionality(crystal: Crystal) -> int | None:
    """0 to 3 by Larsen et al. (Phys. Rev. Mater. 3, 034003, 2019) with Jmol bonds, or None."""
    from pymatgen.analysis.dimensionality import get_dimensionality_larsen
    from pymatgen.analysis.graphs import StructureGraph
    from pymatgen.analysis.local_env import JmolNN

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_dimensionality_larsen(StructureGraph.from_local_env_strategy(to_structure(crystal), JmolNN()))
    except Exception:  # as above
        return None
