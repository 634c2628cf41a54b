"""A cascade of predictions: cheap before dear, so that most candidates cost one evaluation instead of 200.

A candidate is held against the energy of its composition, if there is an ensemble for that, then screened by one member
at its own volume, then by a few; it is out as soon as it lies above the hull by more than the threshold and a margin.
The lowest of what is left are refined by the whole ensemble at 20 volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import EnsembleModel, chunks


@dataclass(frozen=True, eq=False)
class Screening:
    """What a screen says of n candidates.

    median, iqr: (n,) formation energy, eV/atom, over the members that looked; iqr is 0 where one did, and a candidate
        that its composition ended has the composition's energy.
    passed: (n,) bool, may reach the threshold. evaluations: (n,) int, of members on the candidate's graph.
    """

    median: np.ndarray
    iqr: np.ndarray
    passed: np.ndarray
    evaluations: np.ndarray


def screen(
    model: EnsembleModel,
    crystals: Sequence[Crystal],
    e_hull: np.ndarray,
    threshold: float,
    config: CascadeConfig,
    e_composition: np.ndarray | None = None,
) -> Screening:
    """Screen n crystals against the hull's energies e_hull (n,) at their compositions, eV/atom.

    threshold: eV/atom above the hull that a candidate must not exceed. e_composition: (n,) what a compositional
    ensemble predicts for their formulas, with `config.composition_margin`. Raises BadCrystal with the index of a bad
    one.
    """
    e_hull = np.asarray(e_hull, np.float64)
    if e_composition is None or config.composition_margin is None:
        e_composition = np.full(len(e_hull), -np.inf)
    worth = e_composition <= e_hull + threshold + (config.composition_margin or 0.0)
    second = range(min(config.second_members, model.n_members))
    parts = []
    for chunk in chunks(len(crystals)):
        table = model.structural_graphs(crystals, chunk, 1.0)
        limit = e_hull[chunk] + threshold
        rows = np.flatnonzero(worth[chunk])
        energies = np.full((table.n_graphs, len(second)), np.nan)
        energies[rows, :1] = model.energies(table, rows, np.ones(len(rows)), second[:1])
        left = rows[energies[rows, 0] <= limit[rows] + config.first_margin]
        energies[left, 1:] = model.energies(table, left, np.ones(len(left)), second[1:])
        median, iqr = np.where(worth[chunk], energies[:, 0], e_composition[chunk]), np.zeros(table.n_graphs)
        median[left], iqr[left] = model.median_and_iqr(energies[left])
        passed = np.zeros(table.n_graphs, bool)
        passed[left] = median[left] <= limit[left] + config.second_margin
        parts.append((median, iqr, passed, np.isfinite(energies).sum(axis=1)))
    return Screening(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else _nothing()


def _nothing() -> Screening:
    return Screening(np.zeros(0), np.zeros(0), np.zeros(0, bool), np.zeros(0, int))
