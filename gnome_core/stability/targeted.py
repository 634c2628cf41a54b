"""The part of a hull that decides about a few of its entries: their chemical systems, near the hull."""

from __future__ import annotations

import numpy as np


def in_systems(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(n, m) bool: whether an entry lies in the chemical system of each chosen one, or in a part of it.

    counts: (n, 95) atoms; chosen: (m,) rows.
    """
    held = counts > 0
    return ~(held[:, None, :] & ~held[chosen][None]).any(axis=2)


def competitors(counts: np.ndarray, e_above_hull: np.ndarray, chosen: np.ndarray, window: float) -> np.ndarray:
    """(c,) rows of the compounds that decide whether the chosen entries are stable, themselves left out: all of their
    systems at most `window` eV/atom above the hull.

    counts: (n, 95) atoms; e_above_hull: (n,) eV/atom; chosen: (m,) rows. What lies higher would have to be wrong by
    more than that for another judge to find it below the hull.
    """
    compound = (counts > 0).sum(axis=1) > 1
    near = np.flatnonzero(compound & (e_above_hull <= window))
    near = near[
        in_systems(np.concatenate([counts[near], counts[chosen]]), len(near) + np.arange(len(chosen)))[: len(near)].any(
            axis=1
        )
    ]
    return np.setdiff1d(near, chosen)


def lowest_elements(counts: np.ndarray, e_form: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """(k,) rows of each element's lowest entry, of the elements (atomic numbers) that have one."""
    single = np.flatnonzero((counts > 0).sum(axis=1) == 1)
    numbers = counts[single].argmax(axis=1)
    rows = [single[numbers == z] for z in elements]
    return np.array([own[np.argmin(e_form[own])] for own in rows if len(own)], np.int64)
