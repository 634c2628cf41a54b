"""What became of the jobs of every round: predicted beside evaluated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dft.tables import DONE
from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.generation.random_search import CODE as RANDOM_SEARCH
from pipelines.reading.committed import committed, committed_statuses, hull_vertices, proposals
from pipelines.store.store import Store

JOBS = pa.schema(
    [
        pa.field("round", pa.int32()),
        pa.field("id", pa.string()),  # candidate or job digest
        pa.field("formula", pa.string()),
        pa.field("chemsys", pa.string()),
        pa.field("selected_by_model", pa.bool_()),  # chosen by the ensemble's ranking
        pa.field("selected_by_random", pa.bool_()),  # chosen by the random baseline; both may be true
        pa.field("predicted_e_form", pa.float64()),  # ensemble median, eV/atom
        pa.field("predicted_iqr", pa.float64()),  # interquartile range over the members, eV/atom
        pa.field("e_form", pa.float64()),  # evaluated, eV/atom; null when the evaluation failed
        pa.field("e_above_hull", pa.float64()),  # evaluated, against the hull before this round; negative = below it
        pa.field("status", pa.string()),  # "done", or why there is no energy
    ]
)


def evaluated_jobs(store: Store) -> pa.Table:
    """JOBS of every round whose hull is there."""
    return jobs_of(all_outcomes(store))


def all_outcomes(store: Store) -> dict[int, pa.Table]:
    """What `round_outcomes` says of every round whose hull is there."""
    rounds = [round_ for round_ in store.rounds()[1:] if store.commit(round_, "hull")]
    last = max(rounds, default=0)
    status, energies = committed_statuses(store, last), _committed_energies(store, last)
    return {round_: round_outcomes(store, round_, status, energies) for round_ in rounds}


def _committed_energies(store: Store, round_: int) -> dict[str, float]:
    """Job id -> eV/atom, of results that rounds 1..round_ took in."""
    energies: dict[str, float] = {}
    for earlier in range(1, round_ + 1):
        entries = store.read_table(
            committed(store, earlier, "ingest"), "entries", ENTRY_SCHEMA, ["job", "e_form_per_atom"]
        )
        energies |= dict(zip(entries["job"].to_pylist(), entries["e_form_per_atom"].to_pylist(), strict=True))
    return energies


def jobs_of(outcomes: Mapping[int, pa.Table]) -> pa.Table:
    """JOBS of all rounds. A composition that was searched is one row: its lowest structure."""
    parts = [JOBS.empty_table()]
    for own in outcomes.values():
        lowest = [rows[0] for rows in by_composition(own).values()]
        rows = np.flatnonzero(~own["searched"].to_numpy()).tolist() + lowest
        parts.append(own.take(pa.array(rows, pa.int64())).select(JOBS.names))
    return pa.concat_tables(parts)


def by_composition(outcomes: pa.Table) -> dict[str, list[int]]:
    """Formula -> rows of its random structures, the lowest first, of compositions that were searched."""
    energies = np.nan_to_num(outcomes["e_form"].to_numpy(), nan=np.inf)
    found: dict[str, list[int]] = {}
    for row in np.lexsort((np.array(outcomes["id"].to_pylist(), object), energies)).tolist():
        if outcomes["searched"][row].as_py():
            found.setdefault(outcomes["formula"][row].as_py(), []).append(row)
    return found


def round_outcomes(store: Store, round_: int, status: Mapping[str, str], energies: Mapping[str, float]) -> pa.Table:
    """JOBS columns, `searched` and `volume_factor` of one round's jobs that have a status, an energy or not (eV/atom).

    Distances are to the hull that the round started from.
    """
    jobs = proposals(store.root, round_)
    jobs = jobs.filter(pc.is_in(jobs["id"], pa.array(list(status), pa.string())))
    ids = jobs["id"].to_pylist()
    e_form = np.array([energies.get(job, np.nan) for job in ids])
    above = hull_vertices(store.root, round_ - 1).e_above_hull(atom_counts(jobs["numbers"]), e_form)
    states = [status[job] if job in energies or status[job] != DONE else "rejected" for job in ids]
    random = np.equal(jobs["generator"].to_numpy(), RANDOM_SEARCH)
    searches = store.round_config(round_).get("framework", "structural") != "structural"
    return pa.table(
        {
            "round": pa.array([round_] * len(ids), pa.int32()),
            **{name: jobs[name] for name in ("id", "formula", "chemsys", "selected_by_model", "selected_by_random")},
            "predicted_e_form": jobs["median"],
            "predicted_iqr": jobs["iqr"],
            "e_form": pa.array(e_form, from_pandas=True),
            "e_above_hull": pa.array(above, from_pandas=True),
            "status": pa.array(states, pa.string()),
            "searched": pa.array(random & searches),
            "volume_factor": jobs["volume_factor"],
        }
    )
