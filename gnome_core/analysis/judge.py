"""How far a judge of crystals can be believed: its formation energies against published ones, on a published hull.

The task of Matbench Discovery (Riebesell et al., Nat. Mach. Intell. 7, 836, 2025): a crystal is stable if its formation
energy lies at most a threshold above the hull of the known ones, those of its own composition left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnome_core.analysis.discovery import DiscoveryMetrics, RegressionMetrics, discovery_metrics, regression_metrics
from gnome_core.crystals.crystal import Crystal

THRESHOLDS = (0.0, 0.05)  # eV/atom
MARGINS = (0.0, 0.02, 0.05, 0.1)  # eV/atom below the hull


@dataclass(frozen=True)
class Margin:
    """Of n crystals that a judge puts at least `below` eV/atom under the hull, the share that truly is stable."""

    below: float
    n: int
    stable: float


@dataclass(frozen=True)
class Verdict:
    """What a judge is worth on n labelled crystals, of which some it could not answer (failed).

    errors: of formation energies, eV/atom. bias: mean of predicted - true. at: by threshold, eV/atom.
    """

    n: int
    failed: int
    errors: RegressionMetrics
    median: float
    bias: float
    at: dict[float, DiscoveryMetrics]
    margins: list[Margin]


def judged(labels: np.ndarray, predicted: np.ndarray, hull: np.ndarray) -> Verdict:
    """labels, predicted: (n,) formation energies, eV/atom, predicted NaN where there is no answer; hull: (n,) energies
    of the hull at their compositions. Rows without a hull count for the errors only."""
    known = ~np.isnan(hull)
    error = (predicted - labels)[~np.isnan(predicted)]
    true, claimed = (labels - hull)[known], (predicted - hull)[known]
    margins = []
    for below in MARGINS:
        chosen = claimed <= -below
        share = float((true[chosen] <= 0).mean()) if chosen.any() else np.nan
        margins.append(Margin(below, int(chosen.sum()), share))
    return Verdict(
        len(labels),
        int(np.isnan(predicted).sum()),
        regression_metrics(labels, predicted),
        float(np.median(np.abs(error))) if len(error) else np.nan,
        float(error.mean()) if len(error) else np.nan,
        {threshold: discovery_metrics(true, claimed, threshold) for threshold in THRESHOLDS},
        margins,
    )


def disturbed(crystals: Sequence[Crystal], seed: int = 0, volume: float = 0.05, rattle: float = 0.1) -> list[Crystal]:
    """Crystals with their volume larger by `volume` and atoms moved by normal noise of `rattle` Å a coordinate."""
    made = []
    for row, crystal in enumerate(crystals):
        noise = np.random.default_rng([seed, row]).normal(0, rattle, (crystal.n_sites, 3))
        lattice = crystal.lattice * (1 + volume) ** (1 / 3)
        made.append(Crystal(lattice, crystal.frac_coords + noise @ np.linalg.inv(lattice), crystal.numbers))
    return made
