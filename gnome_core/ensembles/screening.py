"""A cascade of predictions: cheap before dear, so that most candidates cost one evaluation instead of 200.

A candidate is held against the energy of its composition, if there is an ensemble for that, then screened by one member
at its own volume, then by a few; it is out as soon as it lies above the hull by more than the threshold and a margin.
The lowest of what is left are refined by the whole ensemble at 20 volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import EnsembleModel, chunks
from gnome_core.graphs.featurize import BadCrystal


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
    screened = Screening(
        e_composition.copy(), np.zeros(len(e_hull)), np.zeros(len(e_hull), bool), np.zeros(len(e_hull), int)
    )
    # No graph is made of what its composition ends.
    for rows in (np.flatnonzero(worth)[chunk] for chunk in chunks(int(worth.sum()))):
        try:
            table = model.structural_graphs([crystals[row] for row in rows], slice(0, len(rows)), 1.0)
            looked = np.arange(len(rows))
            energies = np.full((len(rows), len(second)), np.nan)
            energies[:, :1] = model.energies(table, looked, np.ones(len(rows)), second[:1])
            limit = e_hull[rows] + threshold
            left = np.flatnonzero(energies[:, 0] <= limit + config.first_margin)
            energies[left, 1:] = model.energies(table, left, np.ones(len(left)), second[1:])
        except BadCrystal as error:
            raise BadCrystal(int(rows[error.index]), error.reason) from error
        screened.median[rows] = energies[:, 0]
        screened.evaluations[rows] = np.isfinite(energies).sum(axis=1)
        screened.median[rows[left]], screened.iqr[rows[left]] = model.median_and_iqr(
            energies[left], atom_counts([crystals[row].numbers for row in rows[left]])
        )
        screened.passed[rows[left]] = screened.median[rows[left]] <= limit[left] + config.second_margin
    return screened
