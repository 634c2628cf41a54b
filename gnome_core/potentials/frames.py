"""Labelled frames: crystals with energies, forces and, where known, stresses; what potentials are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.errors import GnomeError


class BadFrames(GnomeError, ValueError):
    """Frames that cannot train a potential; says which row and why."""


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """n frames on one energy scale, or on several levels of theory.

    energies: (n,) eV of the cell; forces: n arrays (sites, 3) eV/Å; stresses: (n, 3, 3) eV/Å^3, tension positive, NaN
    where there is none; first: (n,) bool, first frames of relaxations; groups: (n,) str, frames of one relaxation (or
    another source of near-equal frames) share one, and never stand on both sides of a split. scale: energy scale of
    level 0; level: (n,) int, which of several levels of theory a frame is of, all 0 if not given. directions and
    responses: n arrays (sites, 3) each, or none; how the forces change (eV/Å^2) as the atoms move along the direction.
    """

    crystals: Sequence[Crystal]
    energies: np.ndarray
    forces: Sequence[np.ndarray]
    stresses: np.ndarray
    first: np.ndarray
    groups: np.ndarray
    scale: str
    level: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    directions: Sequence[np.ndarray] = ()
    responses: Sequence[np.ndarray] = ()

    def __post_init__(self):
        if not len(self.level):
            object.__setattr__(self, "level", np.zeros(len(self.crystals), int))
        for i, (crystal, energy, forces) in enumerate(zip(self.crystals, self.energies, self.forces, strict=True)):
            if forces.shape != (crystal.n_sites, 3):
                raise BadFrames(f"frame {i}: forces of shape {forces.shape} for {crystal.n_sites} atoms")
            if not (np.isfinite(energy) and np.isfinite(forces).all()):
                raise BadFrames(f"frame {i}: energy or forces are not finite; drop the row")

    def __len__(self) -> int:
        return len(self.crystals)

    def take(self, rows: np.ndarray) -> LabelledFrames:
        """The frames at these indices, in this order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return LabelledFrames(
            [self.crystals[i] for i in rows],
            self.energies[rows],
            [self.forces[i] for i in rows],
            self.stresses[rows],
            self.first[rows],
            self.groups[rows],
            self.scale,
            self.level[rows],
            [self.directions[i] for i in rows] if self.directions else (),
            [self.responses[i] for i in rows] if self.responses else (),
        )

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(sorted({int(z) for c in self.crystals for z in np.unique(c.numbers)}))


def frames_without_stress(
    crystals: Sequence[Crystal], energies: np.ndarray, forces: Sequence[np.ndarray], scale: str
) -> LabelledFrames:
    """Frames each of which is a first one and a group of its own."""
    n = len(crystals)
    stresses = np.full((n, 3, 3), np.nan)
    groups = np.arange(n).astype(str)
    return LabelledFrames(crystals, np.asarray(energies, np.float64), forces, stresses, np.ones(n, bool), groups, scale)


def with_levels(sources: Sequence[LabelledFrames]) -> LabelledFrames:
    """Frames of several sources together: each energy scale a level of theory, in the order in which they come, the
    first of which is kept as the name."""
    scales = list(dict.fromkeys(frames.scale for frames in sources))
    return LabelledFrames(
        [crystal for frames in sources for crystal in frames.crystals],
        np.concatenate([frames.energies for frames in sources]),
        [forces for frames in sources for forces in frames.forces],
        np.concatenate([frames.stresses for frames in sources]),
        np.concatenate([frames.first for frames in sources]),
        np.concatenate([[f"{i}/{group}" for group in frames.groups] for i, frames in enumerate(sources)]),
        sources[0].scale,
        np.repeat([scales.index(frames.scale) for frames in sources], [len(frames) for frames in sources]),
    )


def frames_from_table(table: pa.Table) -> LabelledFrames:
    """Frames of a table with the columns of `dft.tables.FRAME_SCHEMA`. Raises BadFrames for mixed energy scales."""
    scales = table["scale"].unique().to_pylist()
    if len(scales) != 1:
        raise BadFrames(f"frames on {len(scales)} energy scales {scales}; a potential learns one")
    crystals = crystals_from_batch(table)
    forces = table["forces"].combine_chunks().flatten().to_numpy().reshape(-1, 3)
    jobs = np.array(table["job"].to_pylist(), object).astype(str)
    sites = np.array([c.n_sites for c in crystals])
    if sites.sum() != len(forces):
        raise BadFrames(f"{len(forces)} forces for {sites.sum()} atoms; the table is broken, write it again")
    return LabelledFrames(
        crystals,
        table["energy"].to_numpy(),
        np.split(forces, np.cumsum(sites)[:-1]),
        table["stress"].combine_chunks().flatten().to_numpy().reshape(-1, 3, 3),
        _first_of_jobs(jobs, table["step"].to_numpy()),
        jobs,
        scales[0],
    )


def _first_of_jobs(jobs: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n,) bool: the lowest step of each job; a job's step 0 may be on another scale than these rows."""
    _, index = np.unique(jobs, return_inverse=True)
    lowest = np.full(index.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, index, steps)
    return steps == lowest[index]


def split_groups(groups: np.ndarray, val_fraction: float, seed: int) -> np.ndarray:
    """(n,) bool, True trains: about `val_fraction` of the frames validate, whole groups at a time, at least one."""
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order]
    validates = np.zeros(len(names), bool)
    validates[order[before < val_fraction * len(groups)]] = True
    return ~validates[index]
