"""What `--json` prints of a store: documents whose schemas are in docs/json.md. Energies are eV/atom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dft.jobs.survey import JobLine, counts
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import space_group
from pipelines.analyses import stored_analyses
from pipelines.reading.discoveries import StableCrystal, stable_crystals
from pipelines.reading.entries import measured_entries
from pipelines.reading.explained import explained
from pipelines.reading.outcomes import evaluated_jobs
from pipelines.reading.potentials import potential_figures
from pipelines.report.summary import headline, origins, summarize
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.rounds.standing import Standing

Document = dict[str, Any]


def status_document(store: Store) -> Document:
    """`gnome round status`: every stage's counts, each round's hit rates and errors."""
    from pipelines.rounds.standing import standings

    went_round = any(store.commit(round_, "hull") for round_ in store.rounds()[1:])
    found = headline(stable_crystals(store, measured_entries(store))) if went_round else None
    evaluated = {row.round: row.figures() for row in summarize(evaluated_jobs(store))} if went_round else {}
    return {
        "store": store.root,
        "rounds": [
            {
                "round": round_,
                "closed": store.is_closed(round_),
                "stages": [_stage(one) for one in standings(store, round_)],
                "evaluated": evaluated.get(round_),
                "potentials": _potentials(store, round_),
            }
            for round_ in store.rounds()
        ],
        "discoveries": asdict(found) if found else None,
        "left_out": stored_analyses(store)[1] if went_round else [],
    }


def top_document(store: Store, n: int | None) -> Document:
    """`gnome top`: the first n discoveries, or all."""
    found = stable_crystals(store, measured_entries(store))
    return {
        "store": store.root,
        "discoveries": asdict(headline(found)),
        "crystals": [_discovery(crystal) for crystal in found[:n]],
    }


def jobs_document(store: str, engines: Iterable[tuple[str, str, Sequence[JobLine]]]) -> Document:
    """`gnome dft status`: the jobs of each engine by state, and failures by reason."""
    return {
        "store": store,
        "engines": [
            {
                "engine": name,
                "folder": place,
                "jobs": len(lines),
                "states": [{"state": s, "reason": r or None, "jobs": n} for s, r, n in counts(lines)],
            }
            for name, place, lines in engines
        ],
    }


def origins_document(store: Store) -> Document:
    """`gnome show STORE`: where all discoveries come from."""
    stable = stable_crystals(store, measured_entries(store))
    found = origins(stable)
    return {
        "store": store.root,
        "discoveries": asdict(headline(stable)),
        "generators": [
            {"generator": name, "last_step": found.last.get(name, 0), "any_step": n}
            for name, n in found.through.items()
        ],
        "roots": [asdict(root) for root in found.roots],
    }


ENTRY = (
    "id", "job", "formula", "chemsys", "round", "source", "scale", "energy_per_atom", "correction_per_atom",
    "e_form_per_atom", "e_above_hull", "e_above_hull_others", "phase_separation_energy", "on_hull", "ground_state",
    "e_above_ground_state", "e_above_mp_hull", "e_above_mp_hull_uncertainty", "p_stable", "confirmed", "confirmed_by",
    "confirmed_why", "novelty", "novelty_source",
)  # fmt: skip


def entry_document(store: Store, id_: str) -> Document:
    """`gnome show STORE ID`: an entry's energies and structure, what it competes with, how it was made."""
    found = explained(store, measured_entries(store), id_)
    row = found.row
    crystal = Crystal(row["lattice"], row["frac_coords"], row["numbers"])
    return {
        "store": store.root,
        **{name: row[name] for name in ENTRY},
        **_space_group(crystal),
        "structure": {
            "lattice": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "symbols": [SYMBOLS[z] for z in crystal.numbers],
        },
        "stable_phases": [phase._asdict() for phase in found.phases],
        "polymorphs": list(found.polymorphs),
        "reaction": found.reaction,
        "verdicts": [{"check": step.key, **verdict._asdict()} for step, verdict in found.verdicts],
        "ancestry": [
            {
                **{name: step[name] for name in ("id", "formula", "round")},
                "made_by": found.made[step["job"]]._asdict() if step["round"] > 0 else None,
            }
            for step in found.chain
        ],
    }


def _stage(one: Standing) -> Document:
    if one.commit is None:
        nothing = dict.fromkeys(("in", "out", "rejected", "dead", "seconds"))
        far = one.progress and {
            **one.progress._asdict(),
            "share": one.progress.part,
            "seconds_left": one.progress.seconds_left,
        }
        return {"stage": one.stage, "state": "begun" if one.attempts else "to run", **nothing, "progress": far}
    numbers = one.commit.counts.model_dump(by_alias=True)
    return {"stage": one.stage, "state": "committed", **numbers, "seconds": one.seconds, "progress": None}


def _potentials(store: Store, round_: int) -> Document | None:
    train = store.commit(round_, "train")
    figures = potential_figures(store, train) if train else None
    if figures is None:
        return None
    own = ("name", "start", "epochs", "n_train", "n_val", "energy_mae", "energy_rmse", "force_mae", "force_rmse")
    return {"members": [{name: row[name] for name in own} for row in figures.members], "flagged": figures.flagged}


def _discovery(crystal: StableCrystal) -> Document:
    return {
        "id": crystal.id,
        "formula": crystal.formula,
        "chemsys": crystal.chemsys,
        **_space_group(crystal.crystal),
        "sites": crystal.crystal.n_sites,
        "round": crystal.round,
        "e_form_per_atom": crystal.e_form,
        "e_above_hull_others": crystal.e_above_hull,
        "e_above_mp_hull": crystal.e_above_mp_hull,
        "e_above_mp_hull_uncertainty": crystal.e_above_mp_hull_uncertainty,
        "p_stable": crystal.p_stable,
        "confirmed": crystal.confirmed,
        "confirmed_by": crystal.confirmed_by,
        "novelty": crystal.novelty.level,
        "novelty_source": crystal.novelty.source,
        "generator": crystal.chain[0].generator,
        "root": crystal.chain[-1].id,
    }


def _space_group(crystal: Crystal) -> Document:
    found = space_group(crystal)
    return {"space_group": found and found.symbol, "space_group_number": found and found.number}
