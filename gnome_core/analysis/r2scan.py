"""How many stable crystals stay stable with another functional."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.growth import n_elements
from gnome_core.analysis.result import Analysis
from gnome_core.stability.hull import Hull

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("elements", pa.int32()),
        pa.field("round", pa.int32()),
        pa.field("phase_separation_energy", pa.float64()),  # r2SCAN, eV/atom
        pa.field("stable", pa.bool_()),  # it is negative
    ],
    metadata={"unit.phase_separation_energy": "eV/atom"},
)


def analyse(entries: pa.Table, results: pa.Table) -> Analysis:
    """The share of stable crystals whose r2SCAN phase-separation energy is negative.

    entries: id, formula, chemsys, round, on_hull of the store. results: entries (id, numbers, e_form_per_atom, scale)
        on one r2SCAN scale, the elements and competing phases among them.
    Raises ValueError for another scale, MissingReference for elements that `results` lacks.
    """
    scales = results["scale"].unique().to_pylist()
    if len(scales) != 1 or "r2scan" not in scales[0].lower():
        raise ValueError(f"results on {', '.join(scales) or 'no scale'}; this needs one r2SCAN scale")
    hull = Hull.from_table(results)
    hull.check_references()
    depth = dict(zip(hull.ids.to_pylist(), hull.entry_e_above_others(without_polymorphs=True), strict=True))
    stable = entries.filter(pc.and_(entries["on_hull"], pc.is_in(entries["id"], hull.ids)))
    stable = stable.filter(pa.array(n_elements(stable) > 1))
    energies = pa.array([depth[id_] for id_ in stable["id"].to_pylist()], pa.float64())
    table = pa.table(
        {
            **{name: stable[name] for name in ("id", "formula", "chemsys", "round")},
            "elements": pa.array(n_elements(stable), pa.int32()),
            "phase_separation_energy": energies,
            "stable": pc.less(energies, 0),
        }
    )
    table = table.select(SCHEMA.names).cast(SCHEMA)
    small = table.filter(pc.less_equal(table["elements"], 3))
    return Analysis(
        "r2scan",
        "Stability with r2SCAN",
        {"crystals": table},
        {
            "stable crystals with results": len(table),
            "still stable": pc.sum(table["stable"]).as_py() or 0,
            "share": _share(table),
            "share, two and three elements": _share(small),
            "share, four elements": _share(table.filter(pc.equal(table["elements"], 4))),
        },
        (
            "Stable: the phase-separation energy against all other compositions with results is negative. GNoME found "
            "84 % of binaries and ternaries and 86.8 % of quaternaries. Competing phases that have no r2SCAN result "
            "are not competed with.",
        ),
    )


def _share(table: pa.Table) -> float | None:
    return round((pc.sum(table["stable"]).as_py() or 0) / len(table), 4) if len(table) else None
