"""The chance that a crystal is truly stable, given how far a judge puts it from a hull."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from scipy.special import expit

Against = Literal["published", "own"]


@dataclass(frozen=True)
class Calibration:
    """P(stable) = 1 / (1 + exp((e_above_hull - offset) / width)), both in eV/atom.

    The logistic regression of "truly at or below the Materials Project's hull" on a judge's distance to it (Platt,
    1999). offset: where the chance is one half, below zero as those that seem stable are so by an error too. width:
    the judge's, of distances, so that what its errors about a crystal and about its competitors share is not in it.
    """

    offset: float
    width: float

    def chance(self, e_above_hull: np.ndarray, spread: np.ndarray | float = 0.0) -> np.ndarray:
        """(n,) between 0 and 1, NaN where there is no distance.

        e_above_hull: (n,) eV/atom, signed; spread: standard deviation of what an ensemble says of it, eV/atom, which
        adds to the judge's error as the variance of a normal distribution does to that of a logistic one.
        """
        width = np.sqrt(self.width**2 + 3 / np.pi**2 * np.square(spread))
        return expit((self.offset - np.asarray(e_above_hull, np.float64)) / width)


@cache
def calibrations(against: Against) -> dict[str, Calibration]:
    """Energy scale -> that of judges on it, as `tools/judge_calibration.py` measured them on 396 crystals of WBM.

    against: distances to the published hull, or to that of the judge's own energies of the embedded snapshot.
    """
    table = json.loads((resources.files("gnome_core.data") / "judges.json").read_text())
    rows = {scale: row[against] for scale, row in table["scales"].items() if against in row}
    return {scale: Calibration(row["offset"], row["width"]) for scale, row in rows.items()}
