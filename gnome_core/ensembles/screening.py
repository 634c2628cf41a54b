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
from gnome_core.compositions.known import composition_hashes
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

    The first crystal of a reduced formula speaks for the others. threshold: eV/atom above the hull that a candidate
    must not exceed. e_composition: (n,) what a compositional ensemble predicts for their formulas, with
    `config.composition_margin`. Raises BadCrystal with the index of a bad one.
    """
    limit = np.asarray(e_hull, np.float64) + threshold
    screened = Screening(
        np.full(len(limit), -np.inf), np.zeros(len(limit)), np.zeros(len(limit), bool), np.zeros(len(limit), int)
    )
    rows = np.arange(len(limit))
    if e_composition is not None and config.composition_margin is not None:
        screened.median[:] = e_composition
        rows = np.flatnonzero(e_composition <= limit + config.composition_margin)
    if config.pilot_margin is not None:
        hashes = composition_hashes(atom_counts([crystals[row].numbers for row in rows]))
        _, first, of_row = np.unique(hashes, return_index=True, return_inverse=True)
        energies = _look(model, crystals, rows[first], limit, config, screened)[of_row]
        others = np.setdiff1d(np.arange(len(rows)), first)
        rows, energies = rows[others], energies[others]
        screened.median[rows] = energies
        rows = rows[energies <= limit[rows] + config.pilot_margin]
    _look(model, crystals, rows, limit, config, screened)
    return screened


def _look(
    model: EnsembleModel,
    crystals: Sequence[Crystal],
    rows: np.ndarray,
    limit: np.ndarray,
    config: CascadeConfig,
    screened: Screening,
) -> np.ndarray:
    """Write into `screened` what members say of the given rows. Returns the first one's energies, eV/atom."""
    second = range(min(config.second_members, model.n_members))
    first = np.zeros(len(rows))
    for chunk in chunks(len(rows)):
        own = rows[chunk]
        try:
            table = model.structural_graphs([crystals[row] for row in own], slice(0, len(own)), 1.0)
            looked = np.arange(len(own))
            energies = np.full((len(own), len(second)), np.nan)
            energies[:, :1] = model.energies(table, looked, np.ones(len(own)), second[:1])
            left = np.flatnonzero(energies[:, 0] <= limit[own] + config.first_margin)
            energies[left, 1:] = model.energies(table, left, np.ones(len(left)), second[1:])
        except BadCrystal as error:
            raise BadCrystal(int(own[error.index]), error.reason) from error
        first[chunk] = energies[:, 0]
        screened.median[own] = energies[:, 0]
        screened.evaluations[own] = np.isfinite(energies).sum(axis=1)
        near = own[left]
        screened.median[near], screened.iqr[near] = model.median_and_iqr(
            energies[left], atom_counts([crystals[row].numbers for row in near])
        )
        screened.passed[near] = screened.median[near] <= limit[near] + config.second_margin
    return first
