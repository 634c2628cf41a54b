"""Committed stages -> ReportData."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dft.jobs import DONE
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch
from gnome_core.stability.compositions import atom_counts
from pipelines.entries import ancestry, measured_entries, new_on_hull, recipe_of_job
from pipelines.report.data import JOBS, MemberError, ProvenanceStep, ReportData, StableCrystal, StageCounts
from pipelines.resources import committed, committed_statuses, hull_until, proposals
from pipelines.round import stages_of
from pipelines.schemas import MEMBER_SCHEMA
from pipelines.store import Commit, Store

PACKAGES = ("gnome-flywheel", "apache-beam", "jax", "flax", "numpy", "pyarrow", "pymatgen", "vesin")


def collect(store: Store) -> ReportData:
    """All that is committed, whichever stages that are. Raises UserError for a store without a hull."""
    commits = [
        commit
        for round_ in store.rounds()
        for stage in stages_of(round_)
        if (commit := store.commit(round_, stage)) is not None
    ]
    entries = measured_entries(store)
    ingested = [commit.round for commit in commits if commit.stage == "ingest"]
    rounds = [round_ for round_ in ingested if store.commit(round_, "hull")]
    return ReportData(
        title="GNoME flywheel",
        scale=entries["scale"][0].as_py(),
        stages=tuple(_stage_counts(commit) for commit in commits),
        jobs=pa.concat_tables([JOBS.empty_table(), *(_jobs(store, round_, rounds[-1]) for round_ in rounds)]),
        hull_entries=entries,
        stable=tuple(_stable(store, entries)),
        members=tuple(error for commit in commits if commit.stage == "train" for error in _members(store, commit)),
        config=store.round_config(store.rounds()[-1]),
        versions={name: metadata.version(name) for name in PACKAGES},
    )


def _stage_counts(commit: Commit) -> StageCounts:
    counts = commit.counts
    return StageCounts(
        commit.round, commit.stage, counts.n_in, counts.n_out, counts.rejected, counts.dead, commit.seconds
    )


def _jobs(store: Store, round_: int, last: int) -> pa.Table:
    """The report's rows of one round's jobs whose results rounds up to `last` took in; distances are to the hull that
    the round started from."""
    jobs = proposals(store.root, round_)
    status = committed_statuses(store, last)
    jobs = jobs.filter(pc.is_in(jobs["id"], pa.array(list(status), pa.string())))
    energies: dict[str, float] = {}
    for later in range(round_, last + 1):
        columns = store.read_table(
            committed(store, later, "ingest"), "entries", ENTRY_SCHEMA, ["job", "e_form_per_atom"]
        )
        energies |= dict(zip(columns["job"].to_pylist(), columns["e_form_per_atom"].to_pylist(), strict=True))
    ids = jobs["id"].to_pylist()
    e_form = np.array([energies.get(job, np.nan) for job in ids])
    above = hull_until(store.root, round_ - 1).e_above_hull(atom_counts(jobs["numbers"]), e_form)
    states = [status[job] if job in energies or status[job] != DONE else "rejected" for job in ids]
    return pa.table(
        {
            "round": pa.array([round_] * len(ids), pa.int32()),
            **{name: jobs[name] for name in ("id", "formula", "chemsys", "selected_by_model", "selected_by_random")},
            "predicted_e_form": jobs["median"],
            "predicted_iqr": jobs["iqr"],
            "e_form": pa.array(e_form, from_pandas=True),
            "e_above_hull": pa.array(above, from_pandas=True),
            "status": pa.array(states, pa.string()),
        }
    ).select(JOBS.names)


def _stable(store: Store, entries: pa.Table) -> list[StableCrystal]:
    new = new_on_hull(entries).sort_by([("e_above_hull_others", "ascending"), ("id", "ascending")])
    return [
        StableCrystal(
            id=row["id"],
            formula=row["formula"],
            chemsys=row["chemsys"],
            round=row["round"],
            crystal=crystal,
            e_form=row["e_form_per_atom"],
            e_above_hull=row["e_above_hull_others"],
            chain=tuple(_step(store, step) for step in ancestry(entries, row["id"])),
        )
        for row, crystal in zip(new.to_pylist(), crystals_from_batch(new), strict=True)
    ]


def _step(store: Store, row: dict) -> ProvenanceStep:
    if row["round"] == 0:
        return ProvenanceStep(row["id"], row["formula"], 0)
    return ProvenanceStep(row["id"], row["formula"], row["round"], *recipe_of_job(store, row["round"], row["job"]))


def _members(store: Store, commit: Commit) -> list[MemberError]:
    rows = store.read_table(commit, "members", MEMBER_SCHEMA).to_pylist()
    return [MemberError(commit.round, row["member"], row["val_mae"]) for row in rows if row["val_mae"] is not None]
