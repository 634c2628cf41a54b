"""What became of the jobs in a set of folders: for `gnome dft status`, `info`, `retry` and `report`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dft.jobs.folders import UNREADABLE, JobFolder, JobFolders, State


@dataclass(frozen=True)
class JobLine:
    """One job in a line. reason: why it failed, or who has taken it. attempts: how many there were. seconds: wall time
    of all of them."""

    id: str
    formula: str
    state: State
    reason: str
    message: str
    attempts: int
    seconds: float
    energy_per_atom: float | None


def job_line(folder: JobFolder) -> JobLine:
    attempts, ending = folder.attempts, folder.ending
    return JobLine(
        folder.id,
        formula_of(folder),
        folder.state,
        ending.reason if ending else "",
        ending.message if ending else "",
        sum(attempt.claim is not None for attempt in attempts),
        sum(attempt.ending.seconds for attempt in attempts if attempt.ending),
        ending.energy_per_atom if ending else None,
    )


def formula_of(folder: JobFolder) -> str:
    """The job's formula, "?" where it is packed or damaged; without building the crystal."""
    try:
        return str(json.loads((folder.folder / "job.json").read_bytes())["formula"])
    except UNREADABLE:
        return "?"


def counts(lines: Sequence[JobLine]) -> list[tuple[str, str, int]]:
    """(state, reason, jobs) in the order of states."""
    found = Counter((line.state, line.reason) for line in lines)
    order = list(State)
    return [(s, r, n) for (s, r), n in sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))]


def retry(folders: JobFolders, ids: Sequence[str]) -> list[str]:
    """Ask for a new attempt at each of the jobs; returns those it was given for, the others being under way."""
    return [id_ for id_ in ids if folders[id_].request() is not None]
