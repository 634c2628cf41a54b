"""The Li/Mn transition-metal oxides: cathode candidates in place of LiCoO2."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.result import Analysis

# Li-Mn-TM-O as surveyed by Bartel et al., npj Comput. Mater. 6, 97 (2020).
PARTNERS = ("Ti", "V", "Cr", "Fe", "Co", "Ni", "Cu")
SYSTEMS = {"-".join(sorted({"Li", "Mn", "O", metal})): metal for metal in PARTNERS}

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("metal", pa.string()),
        pa.field("round", pa.int32()),
        pa.field("e_form_per_atom", pa.float64()),
        pa.field("e_above_hull", pa.float64()),
        pa.field("on_hull", pa.bool_()),
        pa.field("on_snapshot_hull", pa.bool_()),  # of the snapshot alone
    ],
    metadata={"unit.e_form_per_atom": "eV/atom", "unit.e_above_hull": "eV/atom"},
)


def analyse(entries: pa.Table, snapshot_hull: pa.Table) -> Analysis:
    """Entries of the family, and how many of them are stable now and were in the snapshot.

    entries: id, formula, chemsys, round, e_form_per_atom, e_above_hull, on_hull of the newest hull.
    snapshot_hull: id, on_hull of round 0.
    """
    inside = entries.filter(pc.is_in(entries["chemsys"], pa.array(list(SYSTEMS))))
    inside = inside.sort_by([("e_above_hull", "ascending"), ("id", "ascending")])
    before = set(snapshot_hull.filter(snapshot_hull["on_hull"])["id"].to_pylist())
    ids = inside["id"].to_pylist()
    table = pa.table(
        {
            **{name: inside[name] for name in ("id", "formula", "round", "e_form_per_atom", "e_above_hull", "on_hull")},
            "metal": [SYSTEMS[chemsys] for chemsys in inside["chemsys"].to_pylist()],
            "on_snapshot_hull": [id_ in before for id_ in ids],
        }
    ).select(SCHEMA.names)
    table = table.cast(SCHEMA)
    new = table.filter(pc.and_(table["on_hull"], pc.greater(table["round"], 0)))
    return Analysis(
        "li-mn-oxides",
        "Li/Mn transition-metal oxides",
        {"crystals": table},
        {
            "entries": len(table),
            "stable in the snapshot": pc.sum(table["on_snapshot_hull"]).as_py() or 0,
            "stable now": pc.sum(table["on_hull"]).as_py() or 0,
            "new and stable": len(new),
        },
        (
            f"Oxides of Li, Mn and one of {', '.join(PARTNERS)}, the family of Bartel et al. (npj Comput. Mater. 6, "
            "97, 2020). GNoME counted 15 new stable ones beside 9 known.",
        ),
    )
