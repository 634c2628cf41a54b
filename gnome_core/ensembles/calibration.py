"""Calibration of an ensemble's spread, by split conformal prediction, kept beside the members' files.

Members of a deep ensemble err alike, so that their interquartile range is too narrow, though it ranks errors. Half of
the errors on crystals that no member trained on lie within median ± factor * range / 2 (Vovk et al., Algorithmic
Learning in a Random World, 2005; the normalised score |error| / range). Crystals with two elements which no crystal
of the training set holds together are extrapolations, which err more than their range says: theirs is a factor of its
own (Mondrian conformal prediction).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS

FILE = "calibration.json"
MIN_ROWS = 20  # held-out rows below which the spread stays as it is
MAX_ROWS = 2_000  # more do not sharpen one number
LEAST_IQR = 1e-4  # eV/atom; where members agree closer than that, the ratio says nothing


@dataclass(frozen=True, eq=False)
class SpreadCalibration:
    """What interquartile ranges are multiplied by. n, n_extrapolated: held-out rows behind either factor.

    pairs: (95, 95) bool, symmetric, elements that a crystal of the training set holds together; None = not known, and
    nothing is an extrapolation.
    """

    factor: float = 1.0
    n: int = 0
    extrapolated_factor: float = 1.0
    n_extrapolated: int = 0
    pairs: np.ndarray | None = None

    def extrapolated(self, compositions: np.ndarray) -> np.ndarray:
        """(n,) bool, of compositions (n, 95)."""
        if self.pairs is None:
            return np.zeros(len(compositions), bool)
        return holds_unseen_pair(compositions, self.pairs)

    def factors(self, compositions: np.ndarray) -> np.ndarray:
        """(n,) of compositions (n, 95)."""
        return np.where(self.extrapolated(compositions), self.extrapolated_factor, self.factor)

    def to_json(self) -> bytes:
        """The content of FILE."""
        document: dict[str, object] = {"iqr_factor": round(self.factor, 4), "n": self.n}
        if self.pairs is not None:
            document["extrapolated"] = {"iqr_factor": round(self.extrapolated_factor, 4), "n": self.n_extrapolated}
            first, second = np.nonzero(np.triu(self.pairs, 1))
            document["pairs"] = " ".join(f"{SYMBOLS[a]}-{SYMBOLS[b]}" for a, b in zip(first, second, strict=True))
        return json.dumps(document).encode()


def fit_calibration(
    e_form: np.ndarray, median: np.ndarray, iqr: np.ndarray, compositions: np.ndarray, pairs: np.ndarray
) -> SpreadCalibration:
    """From held-out labels (n,), eV/atom, and what members say of them. compositions (n, 95); pairs (95, 95).

    Too few extrapolations share the factor of the others.
    """
    beyond = holds_unseen_pair(compositions, pairs)
    factor = iqr_factor(e_form[~beyond], median[~beyond], iqr[~beyond])
    own = iqr_factor(e_form[beyond], median[beyond], iqr[beyond]) if beyond.sum() >= MIN_ROWS else factor
    return SpreadCalibration(factor, int((~beyond).sum()), own, int(beyond.sum()), pairs)


def pairs_of(compositions: np.ndarray) -> np.ndarray:
    """(95, 95) bool: elements that one of the compositions (n, 95) holds together."""
    held = (np.asarray(compositions) > 0).astype(np.float32)
    return (held.T @ held) > 0


def holds_unseen_pair(compositions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(n,) bool: which of the compositions (n, 95) hold two elements that are no pair (95, 95)."""
    held = (np.asarray(compositions) > 0).astype(np.float32)
    unseen = ~pairs & ~np.eye(N_COLUMNS, dtype=bool)
    return ((held @ unseen.astype(np.float32)) * held).sum(axis=1) > 0


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


def calibration_rows(held_out: np.ndarray) -> np.ndarray:
    """Rows to calibrate on: at most MAX_ROWS of those held out (n,) bool, evenly spread."""
    rows = np.flatnonzero(np.asarray(held_out, bool))
    return rows[:: -(-len(rows) // MAX_ROWS) or 1]


def read_calibration(folder: Path) -> SpreadCalibration:
    """What is kept in a folder of members, or none. Raises ValueError for a file that is not one."""
    path = folder / FILE
    if not path.exists():
        return SpreadCalibration()
    try:
        document = json.loads(path.read_text())
        factor, n = float(document["iqr_factor"]), int(document["n"])
        if "pairs" not in document:  # of an earlier version
            found = SpreadCalibration(factor, n, factor)
        else:
            pairs = np.eye(N_COLUMNS, dtype=bool)
            for pair in document["pairs"].split():
                first, second = (NUMBERS[symbol] for symbol in pair.split("-"))
                pairs[first, second] = pairs[second, first] = True
            own = document["extrapolated"]
            found = SpreadCalibration(factor, n, float(own["iqr_factor"]), int(own["n"]), pairs)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: not a calibration ({error!r}); delete it or train again") from None
    for value in (found.factor, found.extrapolated_factor):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{path}: the factor {value} is not a positive number; delete it or train again")
    return found
