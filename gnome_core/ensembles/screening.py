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
from gnome_core.graphs.featurize import BadCrystal, GraphTable


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
    second_looks: int | None = None,
) -> Screening:
    """Screen n crystals against the hull's energies e_hull (n,) at their compositions, eV/atom.

    The first crystal of a reduced formula speaks for the others. threshold: eV/atom above the hull that a candidate
    must not exceed. e_composition: (n,) what a compositional ensemble predicts for their formulas, with
    `config.composition_margin`. second_looks: how many of what one member leaves, the lowest, a few members look at;
    None = all. Raises BadCrystal with the index of a bad one.
    """
    limit, counts = np.asarray(e_hull, np.float64) + threshold, atom_counts([crystal.numbers for crystal in crystals])
    screened = Screening(
        np.full(len(limit), -np.inf), np.zeros(len(limit)), np.zeros(len(limit), bool), np.zeros(len(limit), int)
    )
    rows = np.arange(len(limit))
    if e_composition is not None and config.composition_margin is not None:
        screened.median[:] = e_composition
        rows = np.flatnonzero(e_composition <= limit + config.composition_margin)
    looks = []
    if config.pilot_margin is not None:
        _, first, of_row = np.unique(composition_hashes(counts[rows]), return_index=True, return_inverse=True)
        looks += _first_looks(model, crystals, rows[first], screened)
        others = np.setdiff1d(np.arange(len(rows)), first)
        energies = screened.median[rows[first]][of_row[others]]
        rows = rows[others]
        screened.median[rows] = energies
        rows = rows[energies <= limit[rows] + config.pilot_margin]
    looks += _first_looks(model, crystals, rows, screened)
    above = np.where(screened.evaluations > 0, screened.median - limit, np.inf)
    screened.passed[:] = above <= config.first_margin
    lowest = np.zeros(len(limit), bool)
    lowest[np.argsort(above, kind="stable")[:second_looks]] = True
    for own, table in looks:
        left = np.flatnonzero(screened.passed[own] & lowest[own])
        _second_look(model, own[left], (table, left), counts, limit, config, screened)
    return screened


def _first_looks(
    model: EnsembleModel, crystals: Sequence[Crystal], rows: np.ndarray, screened: Screening
) -> list[tuple[np.ndarray, GraphTable]]:
    """Write what the first member says of the given rows; returns their graphs, as many rows at once as a chunk has."""
    looks = []
    for own in (rows[chunk] for chunk in chunks(len(rows))):
        try:
            table = model.structural_graphs([crystals[row] for row in own], slice(0, len(own)), 1.0)
            screened.median[own] = model.energies(table, np.arange(len(own)), np.ones(len(own)), range(1))[:, 0]
        except BadCrystal as error:
            raise BadCrystal(int(own[error.index]), error.reason) from error
        screened.evaluations[own] = 1
        looks.append((own, table))
    return looks


def _second_look(
    model: EnsembleModel,
    rows: np.ndarray,
    graphs: tuple[GraphTable, np.ndarray],
    counts: np.ndarray,
    limit: np.ndarray,
    config: CascadeConfig,
    screened: Screening,
) -> None:
    """Write what a few members say of rows that passed the first; graphs: a table and their places in it.
    counts: (n, 95) atoms of all crystals."""
    table, places = graphs
    members = range(1, min(config.second_members, model.n_members))
    try:
        more = model.energies(table, places, np.ones(len(rows)), members)
    except BadCrystal as error:
        raise BadCrystal(int(rows[np.flatnonzero(places == error.index)[0]]), error.reason) from error
    energies = np.concatenate([screened.median[rows, None], more], axis=1)
    screened.median[rows], screened.iqr[rows] = model.median_and_iqr(energies, counts[rows])
    screened.passed[rows] = screened.median[rows] <= limit[rows] + config.second_margin
    screened.evaluations[rows] = energies.shape[1]
