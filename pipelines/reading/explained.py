"""One entry among all others: what it separates into or competes with, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dft.tables import DONE, RESULT_SCHEMA
from gnome_core.analysis.credibility import Step, Verdict, certificate
from gnome_core.compositions.formulas import reduced_formula
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.stability.reactions import decomposition_reaction, equilibrium_reaction
from pipelines.errors import UserError
from pipelines.reading.committed import committed, hull_until
from pipelines.reading.entries import Made, ancestries, newest_hull, recipes_of_jobs
from pipelines.reading.unusable import unusable_geometry
from pipelines.store.store import Store

POLYMORPH = ["id", "e_above_ground_state"]
MOST = 3  # jobs of one beginning


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
    """The one entry whose id, or job's id, starts so, or the lowest of this formula; a whole id comes first. entries:
    those of `measured_entries`.

    Raises UserError where none or several start so; of a job that became no entry it says what became of it.
    """
    job = pa.array([(value or "").startswith(id_) for value in entries["job"].to_pylist()])
    found = entries.filter(pc.or_(pc.starts_with(entries["id"], id_), job))
    exact = found.filter(pc.equal(found["id"], id_))
    lowest = entries.filter(pc.equal(entries["ground_state"], entries["id"]))
    found = next((one for one in (exact, lowest.filter(pc.equal(lowest["formula"], id_))) if len(one)), found)
    _, round_ = newest_hull(store)
    if not len(found):
        ended = "; ".join(_ended_jobs(store, round_, id_))
        raise UserError(f"no entry of {store.root} starts with {id_!r}; {ended or '`gnome export` lists the ids'}")
    if len(found) > 1:
        raise UserError(f"{len(found)} entries of {store.root} start with {id_!r}; `gnome export` lists the ids")
    row = found.to_pylist()[0]
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


def _ended_jobs(store: Store, round_: int, start: str) -> Iterator[str]:
    """What became of the jobs of rounds 1..round_ whose id starts so, MOST at most."""
    left = MOST
    for earlier in range(round_, 0, -1):
        results = store.read_table(committed(store, earlier, "evaluate"), "results", RESULT_SCHEMA)
        rows = results.filter(pc.starts_with(results["id"], start)).slice(0, left)
        for row, crystal in zip(rows.to_pylist(), crystals_from_batch(rows), strict=True):
            refused = unusable_geometry(row["status"], crystal) or "implausible_energy"
            why = f"refused: {refused}" if row["status"] == DONE else f"{row['status']}: {row['message']}"
            yield f"job {row['id']} ({reduced_formula(row['numbers'])}, round {earlier}) was {why}"
        left -= len(rows)
        if not left:
            return
