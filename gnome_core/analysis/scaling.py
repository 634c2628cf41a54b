"""Power laws: how an error falls as the training set grows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gnome_core.analysis.result import Analysis

MIN_SIZES = 3  # two points always lie on a line
MIN_SPAN = 1.5  # times the smallest size: a law through less says nothing


@dataclass(frozen=True)
class PowerLaw:
    """error = factor * size ** exponent, fitted by least squares to the logarithms of n points.

    exponent_error: standard error; r2 of the logarithms.
    """

    factor: float
    exponent: float
    exponent_error: float
    r2: float
    n: int

    def at(self, size: float | np.ndarray) -> float | np.ndarray:
        return self.factor * np.asarray(size, np.float64) ** self.exponent


def fit_power_law(size: np.ndarray, error: np.ndarray) -> PowerLaw | None:
    """The power law through (size, error), both (n,) and positive; None for fewer than MIN_SIZES different sizes, or
    sizes that differ by less than MIN_SPAN."""
    from scipy.stats import linregress

    size, error = np.asarray(size, np.float64), np.asarray(error, np.float64)
    good = (size > 0) & (error > 0) & np.isfinite(size) & np.isfinite(error)
    size, error = size[good], error[good]
    if len(np.unique(size)) < MIN_SIZES or size.max() < MIN_SPAN * size.min():
        return None
    fit = linregress(np.log(size), np.log(error))
    return PowerLaw(float(np.exp(fit.intercept)), float(fit.slope), float(fit.stderr), float(fit.rvalue**2), len(size))


def analyse(members: pa.Table) -> Analysis:
    """The validation error of every ensemble member against what it was trained on, with the power law through them.

    members: one row a trained member: round, member, n_train, val_mae (eV/atom, null without validation crystals).
    """
    table = members.filter(members["val_mae"].is_valid())
    law = fit_power_law(table["n_train"].to_numpy(), table["val_mae"].to_numpy())
    summary: dict[str, object] = {"members": len(table), "sizes": len(set(table["n_train"].to_pylist()))}
    notes = [
        "Validation sets grow with the store as well, so this is the error on what each round knew; a scaling law "
        "proper needs one test set (benchmarks/)."
    ]
    if law is None:
        notes.append(
            f"No law is fitted yet: it takes {MIN_SIZES} training-set sizes, the largest {MIN_SPAN} times the smallest."
        )
    else:
        summary |= {
            "exponent": round(law.exponent, 3),
            "its standard error": round(law.exponent_error, 3),
            "error at ten times the newest size (eV/atom)": round(
                float(law.at(10 * max(table["n_train"].to_pylist()))), 4
            ),
        }
        table = table.append_column("fitted", pa.array(law.at(table["n_train"].to_numpy())))
    return Analysis("scaling", "Scaling law", {"members": table}, summary, tuple(notes))
