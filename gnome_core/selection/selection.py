"""Which scored candidates are evaluated: the paper's threshold and minimum per composition, and a random baseline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

THRESHOLD = 0.050  # eV/atom above the hull (Merchant et al., Nature 624, 80, 2023)
SELECTED = "selected"
MIN_IQR = 0.001  # eV/atom: an ensemble whose members agree to less is still not certain
NORMAL_IQR = 1.3489795003921634  # interquartile range of a normal distribution in standard deviations

Column = Sequence[str] | np.ndarray | pa.Array | pa.ChunkedArray


@dataclass(frozen=True)
class Selection:
    """Rows chosen out of n candidates.

    selected: (k,) int64 row indices, best first; those chosen to explore come before the others.
    explored: (e,) the first of them, chosen for the spread of their prediction.
    reason: (n,) strings, "selected" or why the row was rejected.
    """

    selected: np.ndarray
    explored: np.ndarray
    reason: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """Rows by reason, "selected" among them; they add up to the number of candidates."""
        reasons, counts = np.unique(self.reason, return_counts=True)
        return {SELECTED: 0} | dict(zip(reasons.tolist(), counts.tolist(), strict=True))


def acquisition(e_above_hull: np.ndarray, iqr: np.ndarray, kappa: float) -> np.ndarray:
    """(n,) e_above_hull - kappa * iqr, eV/atom: kappa 0 is the paper's ranking, more a lower confidence bound."""
    # Without its weight the spread plays no part: a missing one must not cost the row.
    return e_above_hull - kappa * iqr if kappa else np.asarray(e_above_hull)


def rank_by_cost(value: np.ndarray, iqr: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """(n,) minus the chance of lying on or below the hull per unit of cost: what yields most for a budget comes first.

    The chance is that of a normal distribution around `value` with the ensemble's interquartile range (at least
    MIN_IQR); value, iqr: (n,) eV/atom.
    """
    from scipy.special import ndtr

    return -ndtr(-value * NORMAL_IQR / np.maximum(iqr, MIN_IQR)) / cost


def explorable(e_above_hull: np.ndarray, iqr: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) bool: candidates that the ensemble's spread would bring within the threshold."""
    return e_above_hull - iqr <= threshold


def explore_budget(budget: int, explore: float) -> int:
    """Evaluations out of `budget` that explore; the others exploit."""
    return round(budget * explore)


def select(
    formula: Column,
    chemsys: Column,
    digest: Column,
    e_above_hull: np.ndarray,
    iqr: np.ndarray,
    *,
    budget: int,
    threshold: float = THRESHOLD,
    per_composition: int = 1,
    max_per_chemsys: int | None = None,
    kappa: float = 0.0,
    explore: float = 0.0,
    cost: np.ndarray | None = None,
    cost_budget: float = np.inf,
    by_cost: bool = False,
) -> Selection:
    """The candidates with the lowest acquisition value e_above_hull - kappa * iqr, at most `budget` of them.

    formula, chemsys, digest: n reduced formulas ("Li2O"), systems ("Li-O") and candidate digests.
    e_above_hull, iqr: (n,) predicted decomposition energy against the current hull (signed) and interquartile range
        of the ensemble, eV/atom.
    budget: evaluations in the round. threshold: eV/atom, of the acquisition value.
    per_composition: candidates kept of one formula, lowest first. max_per_chemsys: of one chemical system, or None.
    kappa: weight of a lower confidence bound; 0 is the paper's ranking.
    explore: share of the budgets that goes, before anything else, to the candidates with the largest spread among
        those that it could bring within the threshold: one of a formula, max_per_chemsys of a system.
    cost, cost_budget: (n,) estimated cost of each evaluation (`dft_cost`) and how much of it may be spent; candidates
        are taken in order until the next one does not fit. by_cost: order them by `rank_by_cost`.

    Ties go to the lower digest, so the rows chosen do not depend on their order. Rejections are counted by the first
    reason that applies: not_finite, too_costly (more than the whole budget), above_threshold,
    not_lowest_of_composition, chemsys_full, over_budget.
    """
    formula, chemsys, digest = (_codes(column) for column in (formula, chemsys, digest))
    e_above_hull, iqr = np.asarray(e_above_hull, np.float64), np.asarray(iqr, np.float64)
    cost = np.ones(len(iqr)) if cost is None else np.asarray(cost, np.float64)
    lengths = {len(column) for column in (formula, chemsys, digest, e_above_hull, iqr, cost)}
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths {sorted(lengths)}; give one value of each per candidate")
    if budget < 0 or per_composition < 1 or (max_per_chemsys is not None and max_per_chemsys < 1):
        raise ValueError("budget must be at least 0, per_composition and max_per_chemsys at least 1")
    if not (0 <= explore < 1 and (cost > 0).all()):
        raise ValueError("explore must be at least 0 and below 1, and every cost be above 0")
    value = acquisition(e_above_hull, iqr, kappa)
    rank = rank_by_cost(value, iqr, cost) if by_cost else value
    reason = np.full(len(value), SELECTED, dtype="<U32")
    n_explored = explore_budget(budget, explore)
    cost_explored, cost_exploited = (cost_budget * explore if explore else 0.0), cost_budget * (1 - explore)

    explored = np.flatnonzero(explorable(e_above_hull, iqr, threshold) & (cost <= cost_explored))
    explored = explored[np.lexsort((digest[explored], -iqr[explored]))]
    explored = explored[_rank_within(formula[explored]) < 1]
    if max_per_chemsys is not None:
        explored = explored[_rank_within(chemsys[explored]) < max_per_chemsys]
    explored = explored[:n_explored]
    explored = explored[np.cumsum(cost[explored]) <= cost_explored]

    order = np.setdiff1d(np.arange(len(value)), explored)
    order = order[np.lexsort((digest[order], value[order]))]

    def keep(passes: np.ndarray, otherwise: str) -> None:
        nonlocal order
        reason[order[~passes]] = otherwise
        order = order[passes]

    keep(np.isfinite(rank[order]), "not_finite")
    keep(cost[order] <= cost_exploited, "too_costly")
    keep(value[order] <= threshold, "above_threshold")
    keep(_rank_within(formula[order]) < per_composition, "not_lowest_of_composition")
    order = order[np.lexsort((digest[order], rank[order]))]
    if max_per_chemsys is not None:
        keep(_rank_within(chemsys[order]) < max_per_chemsys, "chemsys_full")
    keep(np.arange(len(order)) < budget - n_explored, "over_budget")
    keep(np.cumsum(cost[order]) <= cost_exploited, "over_budget")
    return Selection(np.append(explored, order), explored, reason)


def select_random(formula: Column, digest: Column, *, budget: int, seed: int) -> Selection:
    """The random baseline: distinct compositions drawn uniformly, one random candidate of each; no model is asked.

    formula, digest: n reduced formulas and candidate digests. A composition's draw depends on the seed and its formula
    alone, a candidate's on the seed and its digest: not on the order or number of rows. Rejections:
    other_of_composition, over_budget.
    """
    by_formula, by_digest = _draws(formula, seed), _draws(digest, seed)
    if len(by_formula) != len(by_digest):
        raise ValueError(f"{len(by_formula)} formulas but {len(by_digest)} digests; give one of each per candidate")
    reason = np.full(len(by_formula), SELECTED, dtype="<U32")
    order = np.lexsort((by_digest, by_formula))
    first = _rank_within(by_formula[order]) == 0
    reason[order[~first]] = "other_of_composition"
    order = order[first]
    reason[order[budget:]] = "over_budget"
    return Selection(order[:budget], np.zeros(0, np.int64), reason)


def _codes(column: Column) -> np.ndarray:
    """(n,) int64 ranks of the strings in sorted order, equal for equal strings."""
    array = _arrow(column)
    encoded = array.dictionary_encode()
    if encoded.null_count:
        raise ValueError("a formula, chemsys or digest is missing; every candidate needs all three")
    rank = np.empty(len(encoded.dictionary), np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[encoded.indices.to_numpy()]


def _draws(column: Column, seed: int) -> np.ndarray:
    """(n,) uint64 uniform draws from the hash of (seed, string)."""
    encoded = _arrow(column).dictionary_encode()
    salt = str(seed).encode() + b"|"
    hashes = [hashlib.blake2b(salt + text.encode(), digest_size=8).digest() for text in encoded.dictionary.to_pylist()]
    return np.frombuffer(b"".join(hashes), "<u8")[encoded.indices.to_numpy()]


def _arrow(column: Column) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return pa.array(column, pa.string()) if not isinstance(column, pa.Array) else column.cast(pa.string())


def _rank_within(groups: np.ndarray) -> np.ndarray:
    """(n,) how many earlier rows hold the same value: 0 for the first of each group."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
    return rank
