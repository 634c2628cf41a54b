"""How good the predictions and the choices were: discovery, regression and calibration metrics over arrays.

Definitions of stability metrics are those of Matbench Discovery (Riebesell et al., Nat. Mach. Intell. 7, 836, 2025).
Energies are in eV/atom throughout; "stable" means e_above_hull <= threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import ndtri

from gnome_core.analysis.result import Analysis
from gnome_core.selection.selection import NORMAL_IQR
from gnome_core.stability.hull import ON_HULL

MANY_ELEMENTS = 5  # and more: where GNoME saw its models' choices work although few such crystals were trained on
MANY = "five and more elements"


@dataclass(frozen=True)
class DiscoveryMetrics:
    """Counts of a stable / unstable classification; the ratios are NaN where their denominator is 0."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def n(self) -> int:
        return self.true_positives + self.false_positives + self.true_negatives + self.false_negatives

    @property
    def prevalence(self) -> float:
        """Share of truly stable crystals: the hit rate of choosing at random."""
        return _ratio(self.true_positives + self.false_negatives, self.n)

    @property
    def precision(self) -> float:
        """Truly stable among those predicted stable."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Predicted stable among the truly stable."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def accuracy(self) -> float:
        return _ratio(self.true_positives + self.true_negatives, self.n)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where either is undefined or both are 0."""
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def daf(self) -> float:
        """Discovery acceleration factor, precision / prevalence: how many times better than choosing at random."""
        return _ratio(self.precision, self.prevalence)


def discovery_metrics(
    e_above_hull_true: np.ndarray, e_above_hull_predicted: np.ndarray, threshold: float = 0.0
) -> DiscoveryMetrics:
    """Classify n crystals by true and predicted e_above_hull (n,) eV/atom against one hull.

    A NaN prediction counts as predicted unstable; a crystal whose truth is NaN is left out. Both as in Matbench
    Discovery.
    """
    true, predicted = _same_length(e_above_hull_true, e_above_hull_predicted)
    known = ~np.isnan(true)
    stable = true[known] <= threshold
    called_stable = predicted[known] <= threshold  # False for NaN
    return DiscoveryMetrics(
        true_positives=int((stable & called_stable).sum()),
        false_positives=int((~stable & called_stable).sum()),
        true_negatives=int((~stable & ~called_stable).sum()),
        false_negatives=int((stable & ~called_stable).sum()),
    )


def hit_rate(e_above_hull_true: np.ndarray, threshold: float = 0.0) -> float:
    """Share of the evaluated crystals (n,) found stable; a failed evaluation (NaN) is a miss. NaN for n = 0."""
    true = np.asarray(e_above_hull_true, np.float64)
    return _ratio(int((true <= threshold).sum()), len(true))


@dataclass(frozen=True)
class RegressionMetrics:
    """MAE and RMSE in the unit of the input; r2 = 1 - residual / total sum of squares; n pairs that are not NaN."""

    mae: float
    rmse: float
    r2: float
    n: int


def regression_metrics(true: np.ndarray, predicted: np.ndarray) -> RegressionMetrics:
    """Errors of n predictions; pairs with a NaN are left out. r2 is NaN for fewer than 2 or equal true values."""
    true, predicted = _same_length(true, predicted)
    finite = ~(np.isnan(true) | np.isnan(predicted))
    true, error = true[finite], (predicted - true)[finite]
    if not len(true):
        return RegressionMetrics(np.nan, np.nan, np.nan, 0)
    squares = float(np.square(error).sum())
    r2 = 1.0 - _ratio(squares, float(np.square(true - true.mean()).sum()))
    return RegressionMetrics(float(np.abs(error).mean()), float(np.sqrt(squares / len(true))), r2, len(true))


@dataclass(frozen=True)
class Calibration:
    """How far the spread of an ensemble tells its error.

    levels (l,): nominal central intervals, coverage (l,): share of crystals inside them, if errors were normal with
        standard deviation iqr / 1.349. A calibrated ensemble has coverage = levels; above is too cautious.
    bin_iqr, bin_mae, bin_rmse (b,) eV/atom and bin_count (b,): mean spread and errors in bins of equal count, by
        rising spread.
    rank_correlation: Spearman's, of |error| and spread.
    """

    levels: np.ndarray
    coverage: np.ndarray
    bin_iqr: np.ndarray
    bin_mae: np.ndarray
    bin_rmse: np.ndarray
    bin_count: np.ndarray
    rank_correlation: float


def iqr_calibration(true: np.ndarray, median: np.ndarray, iqr: np.ndarray, bins: int = 10) -> Calibration:
    """Calibration of an ensemble's interquartile range (n,) against the errors of its median (n,), eV/atom.

    Rows with a NaN are left out; fewer rows than bins give fewer bins.
    """
    true, median = _same_length(true, median)
    true, iqr = _same_length(true, iqr)
    finite = ~(np.isnan(true) | np.isnan(median) | np.isnan(iqr))
    error, iqr = np.abs(median - true)[finite], iqr[finite]
    levels = np.linspace(0.1, 0.9, 9)
    half_width = ndtri(0.5 + levels / 2)[:, None] * iqr / NORMAL_IQR
    coverage = (error <= half_width).mean(axis=1) if len(error) else np.full(len(levels), np.nan)
    groups = [g for g in np.array_split(np.argsort(iqr, kind="stable"), bins) if len(g)]
    ranks = np.stack([_ranks(error), _ranks(iqr)]) if len(error) else np.zeros((2, 0))
    varied = len(error) > 1 and (ranks.std(axis=1) > 0).all()
    return Calibration(
        levels=levels,
        coverage=coverage,
        bin_iqr=np.array([iqr[g].mean() for g in groups]),
        bin_mae=np.array([error[g].mean() for g in groups]),
        bin_rmse=np.array([np.sqrt(np.square(error[g]).mean()) for g in groups]),
        bin_count=np.array([len(g) for g in groups], np.int64),
        rank_correlation=float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if varied else np.nan,
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    """(n,) from 1 on; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def analyse(jobs: pa.Table) -> Analysis:
    """Metrics of every round and number of elements.

    jobs: one row a job whose evaluation has ended: round, chemsys, selected_by_model, selected_by_random,
        predicted_e_form (ensemble median), e_form (null where it failed), e_above_hull (evaluated, against the hull
        before the round), eV/atom.
    """
    above, error = (
        jobs["e_above_hull"].to_numpy(),
        np.subtract(*(jobs[c].to_numpy() for c in ("predicted_e_form", "e_form"))),
    )
    round_ = jobs["round"].to_numpy()
    elements = np.array([chemsys.count("-") + 1 for chemsys in jobs["chemsys"].to_pylist()], np.int64)
    by_model, by_random = (jobs[f"selected_by_{who}"].to_numpy() for who in ("model", "random"))
    groups = [("all", "", np.ones(len(jobs), bool))]
    groups += [("round", str(r), round_ == r) for r in np.unique(round_)]
    groups += [("elements", str(k), elements == k) for k in np.unique(elements)]
    many = elements >= MANY_ELEMENTS
    if many.any():
        groups.append((MANY, "", many))
    groups += [
        ("round, elements", f"{r}, {k}", (round_ == r) & (elements == k))
        for r in np.unique(round_)
        for k in np.unique(elements[round_ == r])
    ]
    table = pa.Table.from_pylist(
        [
            {"group": group, "value": value} | _row(above[rows], error[rows], by_model[rows], by_random[rows])
            for group, value, rows in groups
        ]
    )
    overall = table.slice(0, 1).to_pylist()[0]
    return Analysis(
        "discovery",
        "Discovery metrics",
        {"metrics": table},
        {
            "evaluated": overall["evaluated"],
            "stable": overall["stable"],
            "hit rate, models": overall["hit_rate_model"],
            "hit rate, random": overall["hit_rate_random"],
            "F1": overall["f1"],
            "acceleration (precision over prevalence)": overall["daf"],
            "MAE (eV/atom)": overall["mae"],
            **{f"hit rate, {row['group']}": row["hit_rate_model"] for row in table.to_pylist() if row["group"] == MANY},
        },
        (
            "Stable: evaluated at or below the hull as it was before the round (within 0.05 meV/atom). A failed "
            "evaluation is a miss of the hit rate and left out of the classification.",
            "Precision, recall, F1, accuracy and the discovery acceleration factor (precision over prevalence) are "
            "Matbench Discovery's, of the ensemble's median among evaluated crystals, which selection has enriched: "
            "recall says nothing of crystals that nobody evaluated. daf_random is the models' hit rate over that of "
            "the random baseline.",
        ),
    )


def _row(above: np.ndarray, error: np.ndarray, by_model: np.ndarray, by_random: np.ndarray) -> dict:
    """The metrics of one group of jobs; NaN where undefined."""
    # Same composition, same hull: the two distances to the hull differ by the error alone.
    called = discovery_metrics(above, above + error, ON_HULL)
    model, random = hit_rate(above[by_model], ON_HULL), hit_rate(above[by_random], ON_HULL)
    regression = regression_metrics(above, above + error)
    return {
        "evaluated": len(above),
        "failed": int(np.isnan(above).sum()),
        "stable": int((above <= ON_HULL).sum()),
        "chosen_by_model": int(by_model.sum()),
        "hit_rate_model": model,
        "chosen_at_random": int(by_random.sum()),
        "hit_rate_random": random,
        "daf_random": _ratio(model, random),
        "precision": called.precision,
        "recall": called.recall,
        "f1": called.f1,
        "accuracy": called.accuracy,
        "prevalence": called.prevalence,
        "daf": called.daf,
        "mae": regression.mae,
        "rmse": regression.rmse,
        "r2": regression.r2,
    }


def _same_length(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"arrays of shapes {first.shape} and {second.shape}; both must be (n,)")
    return first, second


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")
