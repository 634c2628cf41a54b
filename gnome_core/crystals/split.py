"""Which formulas train the models, and which chemical systems no model may ever see."""

from __future__ import annotations

import functools
import hashlib
import itertools
from typing import Literal

Split = Literal["train", "validation", "all"]
Holdout = Literal["none", "holdout-v1"]  # whether the withheld chemical systems are left out


def is_train(formula: str) -> bool:
    """Whether a reduced formula (pymatgen's string) belongs to the 85 % that train.

    GNoME's rule (Merchant et al., Nature 624, 80, 2023, Methods): md5 of the formula, modulo 100, below 85.
    """
    return int(hashlib.md5(formula.encode(), usedforsecurity=False).hexdigest(), 16) % 100 < 85


def is_withheld(chemsys: str) -> bool:
    """Whether a chemical system ("Li-O") is of the 15 % kept for final tests ("holdout-v1").

    No row of such a system may train anything that this project publishes. Elements are never withheld.
    """
    elements = sorted(chemsys.split("-"))
    if len(elements) < 2:
        return False
    digest = hashlib.sha256(f"holdout-v1|{'-'.join(elements)}".encode()).hexdigest()
    return int(digest[:8], 16) / 2**32 < 0.15


def withholds(holdout: str, *sources: str) -> bool:
    """Whether training on crystals of the sources leaves the withheld systems out: under a holdout, and whatever it is
    where the embedded snapshot is among them, which has such systems only so that hulls are complete."""
    return holdout != "none" or "embedded" in sources


@functools.lru_cache(maxsize=100_000)
def holds_withheld(chemsys: str) -> bool:
    """Whether a chemical system or a system within it is withheld: no model has seen what competes there."""
    elements = sorted(chemsys.split("-"))
    subsets = (part for n in range(2, len(elements) + 1) for part in itertools.combinations(elements, n))
    return any(is_withheld("-".join(part)) for part in subsets)
