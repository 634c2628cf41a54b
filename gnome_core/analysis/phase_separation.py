"""How deep discoveries lie below their competitors, beside the snapshot's stable crystals (GNoME, Fig. 2b)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.growth import n_elements
from gnome_core.analysis.result import Analysis

SNAPSHOT, NEW = "snapshot", "new"  # whose crystals

DISTRIBUTION = pa.schema(
    [
        pa.field("elements", pa.int32()),
        pa.field("of", pa.string()),
        pa.field("crystals", pa.int64()),
        pa.field("phase_separation_energy_lower_quartile", pa.float64()),
        pa.field("phase_separation_energy", pa.float64()),  # the median
        pa.field("phase_separation_energy_upper_quartile", pa.float64()),
        # Kolmogorov and Smirnov's: the largest distance of the two cumulative distributions; null beside nothing.
        pa.field("distance_to_snapshot", pa.float64()),
    ],
    metadata={"unit": "eV/atom"},
)
CRYSTALS = ("id", "formula", "chemsys", "round", "phase_separation_energy")


def analyse(first: pa.Table, newest: pa.Table) -> Analysis:
    """Phase-separation energies of the new stable crystals and of the snapshot's, by number of elements.

    first: the entries measured against the snapshot's hull, newest: against the newest: id, formula, chemsys, round,
    on_hull, phase_separation_energy (eV/atom, null for elements). Each crystal counts on its own hull: the snapshot's
    as it was before the rounds.
    """
    parts = {
        SNAPSHOT: _stable(first, pc.equal(first["round"], 0)),
        NEW: _stable(newest, pc.greater(newest["round"], 0)),
    }
    crystals = pa.concat_tables(
        [part.append_column("of", pa.array([of] * len(part), pa.string())) for of, part in parts.items()]
    )
    crystals = crystals.append_column("elements", pa.array(n_elements(crystals), pa.int32()))
    rows = []
    for k in sorted(set(crystals["elements"].to_pylist())):
        energies = {of: _energies(crystals, k, of) for of in parts}
        for of, own in energies.items():
            if len(own):
                low, middle, high = np.percentile(own, (25, 50, 75)).tolist()
                beside = _distance(own, energies[SNAPSHOT]) if of == NEW else None
                rows.append(dict(zip(DISTRIBUTION.names, (k, of, len(own), low, middle, high, beside), strict=True)))
    return Analysis(
        "phase-separation",
        "Phase-separation energies",
        {"distribution": pa.Table.from_pylist(rows, DISTRIBUTION), "crystals": crystals},
        {
            f"{name}, median{of_elements} (meV/atom)": _median(_energies(crystals, k, of))
            for k, of_elements in ((None, ""), (4, ", four elements"))
            for of, name in ((SNAPSHOT, "the snapshot's"), (NEW, "new"))
        },
        (
            "The energy of a stable crystal minus that of what all other compositions would form in its place: the "
            "more negative, the harder it is to displace. The distance of two distributions is Kolmogorov and "
            "Smirnov's, 0 where they are equal and 1 where they have nothing in common.",
        ),
    )


def _stable(table: pa.Table, whose: pa.ChunkedArray) -> pa.Table:
    """The stable compounds among the rows; an element competes with nothing."""
    known = pc.is_valid(table["phase_separation_energy"])
    return table.filter(pc.and_(pc.and_(table["on_hull"], whose), known)).select(CRYSTALS)


def _energies(crystals: pa.Table, elements: int | None, of: str) -> np.ndarray:
    chosen = crystals.filter(pc.equal(crystals["of"], of))
    if elements is not None:
        chosen = chosen.filter(pc.equal(chosen["elements"], elements))
    return chosen["phase_separation_energy"].to_numpy()


def _distance(own: np.ndarray, other: np.ndarray) -> float | None:
    if not len(other):
        return None
    from scipy.stats import ks_2samp

    return float(ks_2samp(own, other).statistic)


def _median(energies: np.ndarray) -> float | None:
    return round(1000 * float(np.median(energies)), 1) if len(energies) else None
