"""One entry among all others: what it separates into or competes with, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.credibility import Step, Verdict, certificate
from gnome_core.stability.reactions import decomposition_reaction, equilibrium_reaction
from pipelines.errors import UserError
from pipelines.reading.committed import hull_until
from pipelines.reading.entries import Made, ancestries, newest_hull, recipes_of_jobs
from pipelines.store.store import Store

POLYMORPH = ["id", "e_above_ground_state"]


class Phase(NamedTuple):
    id: str
    formula: str
    atom_fraction: float


@dataclass(frozen=True)
class Explained:
    """row: of `measured_entries`. phases: the stable ones at its composition, largest share of the atoms first.

    reaction: above the hull, what it decomposes into; on it, what it competes with ("" for an element). chain: rows of
    `ancestries`, from the entry to its root. made: job -> how, of those in the chain that rounds found.
    polymorphs: POLYMORPH of the other entries of its composition, the lowest first.
    """

    row: Mapping[str, Any]
    phases: tuple[Phase, ...]
    reaction: str
    chain: tuple[Mapping[str, Any], ...]
    made: Mapping[str, Made]
    verdicts: tuple[tuple[Step, Verdict], ...]
    polymorphs: tuple[Mapping[str, Any], ...]


def explained(store: Store, entries: pa.Table, id_: str) -> Explained:
    """The one entry whose id, or job's id, starts so; a whole id comes first. entries: those of `measured_entries`.

    Raises UserError where none or several do.
    """
    job = pa.array([(value or "").startswith(id_) for value in entries["job"].to_pylist()])
    found = entries.filter(pc.or_(pc.starts_with(entries["id"], id_), job))
    exact = found.filter(pc.equal(found["id"], id_))
    found = exact if len(exact) else found
    if len(found) != 1:
        what = f"{len(found)} entries start with" if len(found) else "no entry starts with"
        raise UserError(f"{what} {id_!r} in {store.root}; `gnome export` lists the ids")
    row = found.to_pylist()[0]
    _, round_ = newest_hull(store)
    hull = hull_until(store.root, round_)
    position = pc.index(hull.ids, row["id"]).as_py()
    formulas = dict(zip(entries["id"].to_pylist(), entries["formula"].to_pylist(), strict=True))
    products = [
        (hull.ids[p.entry].as_py(), p.atom_fraction) for p in hull.decomposition(hull.compositions([position])[0])
    ]
    chain = ancestries(entries, [row["id"]])[0]
    same = entries.filter(pc.equal(entries["formula"], row["formula"]))
    same = same.filter(pc.not_equal(same["id"], row["id"])).sort_by([(name, "ascending") for name in POLYMORPH[::-1]])
    return Explained(
        row=row,
        phases=tuple(Phase(id_, formulas[id_], fraction) for id_, fraction in products),
        reaction=(equilibrium_reaction if row["on_hull"] else decomposition_reaction)(hull, position),
        chain=tuple(chain),
        made=recipes_of_jobs(store, round_, (step["job"] for step in chain if step["round"] > 0)),
        verdicts=tuple(certificate(entries, row["id"]) if row["round"] > 0 and row["on_hull"] else ()),
        polymorphs=tuple(same.select(POLYMORPH).to_pylist()),
    )
