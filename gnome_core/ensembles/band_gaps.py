"""Band gaps where no calculation gave any: a network over compositions that learnt the Materials Project's PBE gaps.

The gap is that of a composition's most stable crystal, which is what stands on a hull. It is an estimate for sorting
insulators from the rest, and is said to be one wherever it is shown (MODEL_CARD.md: its errors).
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from gnome_core.ensembles.ensemble import EnsembleModel

MODEL = "gap model"  # what its answers are called


def model_path() -> Path:
    """The shipped member's .npz."""
    return Path(str(resources.files("gnome_core.data") / "band_gap" / "member-000.npz"))


@lru_cache(maxsize=1)
def _model() -> EnsembleModel:
    return EnsembleModel.load([model_path()], target="band_gap")


def model_error() -> float:
    """Mean absolute error of the shipped model on formulas that it was not trained on, eV."""
    error = _model().records[0].val_mae
    assert error is not None
    return error


def predict_band_gaps(compositions: np.ndarray) -> np.ndarray:
    """(n,) eV, 0 = a metal, of compositions (n, 95); NaN for those with an element that the model never saw."""
    gaps = np.full(len(compositions), np.nan)
    unseen = np.setdiff1d(np.arange(compositions.shape[1]), list(_model().elements))
    rows = np.flatnonzero(~(compositions[:, unseen] > 0).any(axis=1))
    if len(rows):
        gaps[rows] = np.maximum(_model().predict_compositions(compositions[rows]).median, 0)
    return gaps
