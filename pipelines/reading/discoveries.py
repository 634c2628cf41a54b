"""The new crystals on the hull, and how each came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.novelty import Novelty
from pipelines.reading.entries import Made, ancestries, new_on_hull, recipes_of_jobs
from pipelines.store.store import Store


@dataclass(frozen=True)
class ProvenanceStep:
    """One crystal of a chain and how it was made.

    mapping: old symbol -> new symbol of the recipe that made it from its parent, the next step; empty for a root.
    """

    id: str
    formula: str
    round: int  # 0 = snapshot
    generator: str = ""  # "substitution", "saps"; empty for a root
    mapping: Mapping[str, str] = field(default_factory=dict)
    n_replaced_sites: int | None = None  # None = all sites of the mapped ions
    cell: str = ""  # what was built where there was no parent: "Li30Si8, space group 14, ..."


@dataclass(frozen=True)
class StableCrystal:
    """A new crystal on the newest hull. `chain` runs from the crystal itself to its root parent in the snapshot."""

    id: str
    job: str
    formula: str
    chemsys: str
    round: int
    crystal: Crystal
    e_form: float  # eV/atom
    e_above_hull: float  # eV/atom, against the newest hull without itself: negative = how far it lowers the hull
    novelty: Novelty
    e_above_mp_hull: float | None  # eV/atom, against the Materials Project's hull as published; None = not comparable
    e_above_mp_hull_uncertainty: float | None  # eV/atom; None = not measured
    p_stable: float | None  # the chance of being truly at or below that hull; None = the evaluator is not calibrated
    confirmed: bool | None  # by all second judges that answered; None = none did
    confirmed_by: str | None  # the judges asked
    chain: tuple[ProvenanceStep, ...]


def stable_crystals(store: Store, entries: pa.Table) -> list[StableCrystal]:
    """The new crystals on the newest hull, deepest first. entries: those of `measured_entries`."""
    new = new_on_hull(entries).sort_by([("e_above_hull_others", "ascending"), ("id", "ascending")])
    chains = ancestries(entries, new["id"].to_pylist())
    made_by_rounds = [step for chain in chains for step in chain if step["round"] > 0]
    newest = max((step["round"] for step in made_by_rounds), default=0)
    recipes = recipes_of_jobs(store, newest, (step["job"] for step in made_by_rounds))
    return [
        StableCrystal(
            id=row["id"],
            job=row["job"],
            formula=row["formula"],
            chemsys=row["chemsys"],
            round=row["round"],
            crystal=crystal,
            e_form=row["e_form_per_atom"],
            e_above_hull=row["e_above_hull_others"],
            novelty=Novelty(row["novelty"], row["novelty_source"]),
            e_above_mp_hull=row["e_above_mp_hull"],
            e_above_mp_hull_uncertainty=row["e_above_mp_hull_uncertainty"],
            p_stable=row["p_stable"],
            confirmed=row["confirmed"],
            confirmed_by=row["confirmed_by"],
            chain=tuple(_step(step, recipes) for step in chain),
        )
        for row, crystal, chain in zip(new.to_pylist(), crystals_from_batch(new), chains, strict=True)
    ]


def _step(row: dict, recipes: Mapping[str, Made]) -> ProvenanceStep:
    if row["round"] == 0:
        return ProvenanceStep(row["id"], row["formula"], 0)
    return ProvenanceStep(row["id"], row["formula"], row["round"], *recipes[row["job"]])
