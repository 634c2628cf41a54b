"""Calibration of an ensemble's spread: one factor, by split conformal prediction, kept beside the members' files.

Members of a deep ensemble err alike, so that their interquartile range is too narrow, though it ranks errors. Half of
the errors on crystals that no member trained on lie within median ± factor * range / 2 (Vovk et al., Algorithmic
Learning in a Random World, 2005; the normalised score |error| / range).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FILE = "calibration.json"
MIN_ROWS = 20  # held-out rows below which the spread stays as it is
MAX_ROWS = 2_000  # more do not sharpen one number
LEAST_IQR = 1e-4  # eV/atom; where members agree closer than that, the ratio says nothing


def iqr_factor(e_form: np.ndarray, median: np.ndarray, iqr: np.ndarray) -> float:
    """What to multiply ranges (n,) by, so that median ± range / 2 holds half of the held-out labels (n,), eV/atom.

    1 for fewer than MIN_ROWS.
    """
    error, half = np.abs(np.asarray(median) - e_form), np.maximum(iqr, LEAST_IQR) / 2
    n = len(error)
    if n < MIN_ROWS:
        return 1.0
    rank = int(np.ceil((n + 1) / 2))  # the smallest that guarantees the coverage for one more row like these
    return float(np.sort(error / half)[rank - 1])


def calibration_rows(is_train: np.ndarray) -> np.ndarray:
    """Held-out rows to calibrate on: at most MAX_ROWS, evenly spread."""
    held_out = np.flatnonzero(~np.asarray(is_train, bool))
    return held_out[:: -(-len(held_out) // MAX_ROWS) or 1]


def calibration_json(factor: float, n: int) -> bytes:
    """The content of FILE; n: held-out rows behind it."""
    return json.dumps({"iqr_factor": round(factor, 4), "n": n}).encode()


def read_factor(folder: Path) -> float:
    """The factor kept in a folder of members, or 1. Raises ValueError for a file that is not one."""
    path = folder / FILE
    if not path.exists():
        return 1.0
    try:
        factor = float(json.loads(path.read_text())["iqr_factor"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a calibration ({error!r}); delete it or train again") from None
    if not (np.isfinite(factor) and factor > 0):
        raise ValueError(f"{path}: the factor {factor} is not a positive number; delete it or train again")
    return factor
