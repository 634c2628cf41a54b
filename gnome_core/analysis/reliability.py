"""How a judge's distances become probabilities, and how far these can be believed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from gnome_core.stability.chance import Calibration

FOLDS, BINS = 10, 10
LEAST = 20  # stable crystals, and others, that a fit takes


@dataclass(frozen=True)
class Reliability:
    """A calibration on n crystals, and its errors on formulas that it had not seen: `reliability_error`, log loss."""

    calibration: Calibration
    n: int
    error: float
    log_loss: float


def fit(e_above_hull: np.ndarray, stable: np.ndarray) -> Calibration:
    """The likeliest calibration of (n,) distances in eV/atom and (n,) bool."""

    def loss(values: np.ndarray) -> float:
        return _log_loss(Calibration(float(values[0]), float(np.exp(values[1]))).chance(e_above_hull), stable)

    starts = [minimize(loss, [offset, np.log(0.05)], method="Nelder-Mead") for offset in (0.0, -0.1)]
    best = min(starts, key=lambda found: found.fun).x
    return Calibration(float(best[0]), float(np.exp(best[1])))


def reliability(
    formulas: Sequence[str], e_above_hull: np.ndarray, stable: np.ndarray, folds: int = FOLDS
) -> Reliability | None:
    """The calibration of all rows with a distance, measured on folds of formulas; None where too few are of a kind."""
    known = np.isfinite(e_above_hull)
    names, distances, truth = np.array(formulas)[known], e_above_hull[known], np.asarray(stable, bool)[known]
    if min(truth.sum(), (~truth).sum()) < LEAST:
        return None
    fold = np.array([int.from_bytes(hashlib.blake2b(n.encode(), digest_size=4).digest()) % folds for n in names])
    chances = np.zeros(len(truth))
    for held_out in range(folds):
        own = fold == held_out
        chances[own] = fit(distances[~own], truth[~own]).chance(distances[own])
    return Reliability(fit(distances, truth), len(truth), reliability_error(chances, truth), _log_loss(chances, truth))


def reliability_error(chances: np.ndarray, truth: np.ndarray, bins: int = BINS) -> float:
    """Mean over rows of |mean chance - share that is true| of their bin of equal width, the expected calibration error
    (Naeini, Cooper and Hauskrecht, AAAI 2015)."""
    rows = np.minimum((chances * bins).astype(int), bins - 1)
    gaps = [(own.sum(), abs(chances[own].mean() - truth[own].mean())) for b in range(bins) if (own := rows == b).any()]
    return float(sum(n * gap for n, gap in gaps) / len(truth))


def _log_loss(chances: np.ndarray, truth: np.ndarray) -> float:
    certain = np.clip(np.where(truth, chances, 1 - chances), 1e-12, None)
    return float(-np.log(certain).mean())
