"""How evaluated crystals were relaxed: energy and volume, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dft.tables import FRAME_SCHEMA
from pipelines.store.store import Store

COLUMNS = ["job", "numbers", "lattice", "energy", "calculation"]


@dataclass(frozen=True)
class RelaxationPath:
    """One relaxation: energies (n,), eV/atom, and volumes (n,), Å^3/atom, of its n steps in order, the last relaxed.

    calculation: which of a job's it is ("relax1"), the one of most steps; None where the job had only one.
    """

    energies: np.ndarray
    volumes: np.ndarray
    calculation: str | None


def relaxation_paths(store: Store, jobs: Collection[str]) -> dict[str, RelaxationPath]:
    """Job id -> its relaxation, of those jobs that any round's evaluation kept steps of."""
    wanted = pa.array(sorted(set(jobs)), pa.string())
    found: dict[str, RelaxationPath] = {}
    for round_ in store.rounds()[1:]:
        commit = store.commit(round_, "evaluate")
        if commit is None:
            continue
        frames = store.read_table(commit, "frames", FRAME_SCHEMA, COLUMNS)
        frames = frames.filter(pc.is_in(frames["job"], value_set=wanted))
        rows: dict[str, list[int]] = {}
        for row, job in enumerate(frames["job"].to_pylist()):
            rows.setdefault(job, []).append(row)
        found |= {job: path_of(frames.take(pa.array(own))) for job, own in rows.items()}
    return found


def path_of(frames: pa.Table) -> RelaxationPath:
    """The longest calculation of one job's frames, in order."""
    (calculation, _), *_ = Counter(frames["calculation"].to_pylist()).most_common(1)
    if calculation is not None:
        frames = frames.filter(pc.equal(frames["calculation"], calculation))
    n_atoms = pc.list_value_length(frames["numbers"]).to_numpy()
    lattices = np.array(frames["lattice"].to_pylist()).reshape(-1, 3, 3)
    return RelaxationPath(frames["energy"].to_numpy() / n_atoms, np.abs(np.linalg.det(lattices)) / n_atoms, calculation)
