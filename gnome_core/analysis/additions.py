"""What another collection holds that the snapshot does not, and how much of it the rounds found on their own.

GNoME's check on later additions to the Materials Project: of their compositions 2,202 were among its own, nine in ten
of these with the same structure.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.growth import n_elements
from gnome_core.analysis.result import Analysis, Track, untracked
from gnome_core.compositions.formulas import chemsys, composition_key, reduced_formula
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.matching.novelty import KnownStructures

SCHEMA = pa.schema(
    [
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("their_ids", pa.string()),
        pa.field("found", pa.bool_()),  # a crystal of the rounds has the composition
        pa.field("id", pa.string()),  # of the crystal that is one of theirs, else of the lowest of the composition
        pa.field("same_structure", pa.bool_()),
        pa.field("on_hull", pa.bool_()),  # that crystal, on the newest hull
    ]
)
COUNTS = pa.schema(
    [
        pa.field("elements", pa.int32()),
        pa.field("snapshot", pa.int64()),  # compositions on the snapshot's own hull
        pa.field("new_stable", pa.int64()),  # compositions that rounds added to the newest hull
        pa.field("added", pa.int64()),  # compositions of theirs that the snapshot lacks
        pa.field("found", pa.int64()),  # of these, found by rounds
        pa.field("same_structure", pa.int64()),  # of these, with one of their structures
    ]
)


def analyse(entries: pa.Table, first: pa.Table, theirs: pa.Table, track: Track = untracked) -> Analysis:
    """Compositions of `theirs` that the snapshot lacks, beside those of the rounds.

    entries: of the store: id, formula, chemsys, round, e_form_per_atom, on_hull and structure columns. first: the
    snapshot measured against its own hull: chemsys, on_hull. theirs: id and structure columns. Structures are compared
    by StructureMatcher's defaults, each of theirs with every crystal that rounds evaluated of its composition.
    """
    old = {composition_key(numbers) for numbers in _snapshot(entries)["numbers"].to_pylist()}
    new = entries.filter(pc.greater(entries["round"], 0)).sort_by("e_form_per_atom")
    ours, others = defaultdict(list), defaultdict(list)
    for row, numbers in enumerate(new["numbers"].to_pylist()):
        ours[composition_key(numbers)].append(row)
    for row, numbers in enumerate(theirs["numbers"].to_pylist()):
        if (key := composition_key(numbers)) not in old:
            others[key].append(row)
    rows = []
    for key, added in track(list(others.items()), "additions"):
        numbers = theirs["numbers"][added[0]].as_py()
        row = {
            "formula": reduced_formula(numbers),
            "chemsys": chemsys(numbers),
            "their_ids": " ".join(theirs["id"][i].as_py() for i in added),
            "found": key in ours,
        }
        if key in ours:
            same = _same_structure(new, ours[key], theirs, added)
            best = ours[key][0] if same is None else same
            row |= {"id": new["id"][best].as_py(), "same_structure": same is not None}
            row["on_hull"] = new["on_hull"][best].as_py()
        rows.append(row)
    table = pa.Table.from_pylist(rows, SCHEMA).sort_by([("found", "descending"), ("formula", "ascending")])
    found = table.filter(table["found"])
    same = int(pc.sum(found["same_structure"]).as_py() or 0)
    return Analysis(
        "additions",
        "Additions of another collection",
        {"counts": _counts(table, first, new), "compositions": table},
        {
            "their crystals": len(theirs),
            "compositions that the snapshot lacks": len(table),
            "of these found by the rounds": len(found),
            "of these on the newest hull": int(pc.sum(found["on_hull"]).as_py() or 0),
            "of these the same structure": same,
            "share with the same structure": same / len(found) if len(found) else None,
        },
        (
            "Their energies are not looked at: energies of two scales never meet on one hull. Compositions that rounds "
            "never proposed, or evaluated without success, count as not found.",
        ),
    )


def _snapshot(entries: pa.Table) -> pa.Table:
    return entries.filter(pc.equal(entries["round"], 0))


def _same_structure(new: pa.Table, ours: list[int], theirs: pa.Table, added: list[int]) -> int | None:
    """The first row of ours, the lowest first, that is one of their structures."""
    held = KnownStructures(crystals_from_batch(theirs.take(pa.array(added))))
    crystals = crystals_from_batch(new.take(pa.array(ours)))
    return next((row for row, crystal in zip(ours, crystals, strict=True) if held.find(crystal) is not None), None)


def _counts(compositions: pa.Table, first: pa.Table, new: pa.Table) -> pa.Table:
    stable = new.filter(new["on_hull"])
    columns = {
        "snapshot": n_elements(first.filter(first["on_hull"])),
        "new_stable": n_elements(stable),
        "added": n_elements(compositions),
        "found": n_elements(compositions.filter(compositions["found"])),
        "same_structure": n_elements(compositions.filter(pc.fill_null(compositions["same_structure"], False))),
    }
    most = max(map(int, np.concatenate(list(columns.values()))), default=0)
    counts = {name: np.bincount(elements, minlength=most + 1) for name, elements in columns.items()}
    used = np.flatnonzero(np.sum(list(counts.values()), axis=0))
    return pa.table({"elements": used, **{name: count[used] for name, count in counts.items()}}).cast(COUNTS)
