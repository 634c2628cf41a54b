"""How far compositions lie from known ones."""

from __future__ import annotations

import numpy as np


def nearest_share(fractions: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n,) share of atoms that would have to be other elements to make each composition that of its nearest known one.

    fractions (n, 95) and known (m, 95): atomic fractions. Half the city-block distance, which is one less what two
    compositions share; 0 where the composition is known, 1 where none holds any of its elements or none is known.
    """
    farthest = np.ones(len(fractions))
    if not len(known):
        return farthest
    known = np.unique(known, axis=0)
    for row, own in enumerate(fractions):
        elements = np.flatnonzero(own)
        shared = np.minimum(known[:, elements], own[elements]).sum(axis=1)
        farthest[row] = max(1 - shared.max(), 0.0)
    return farthest
