"""The part of a hull that decides about a few of its entries: their chemical systems, near the hull."""

from __future__ import annotations

import numpy as np


def in_systems(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(n, m) bool: whether an entry lies in the chemical system of each chosen one, or in a part of it.

    counts: (n, 95) atoms; chosen: (m,) rows.
    """
    held = counts > 0
    return ~(held[:, None, :] & ~held[chosen][None]).any(axis=2)


def competitors(counts: np.ndarray, near: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(c,) rows of the compounds among `near` that lie in the systems of the chosen entries, themselves left out.

    counts: (n, 95) atoms; near: (n,) bool, what may be stable, with and without the chosen; chosen: (m,) rows.
    """
    rows = np.flatnonzero(near & ((counts > 0).sum(axis=1) > 1))
    held = in_systems(np.concatenate([counts[rows], counts[chosen]]), len(rows) + np.arange(len(chosen)))
    return np.setdiff1d(rows[held[: len(rows)].any(axis=1)], chosen)


def lowest_elements(counts: np.ndarray, e_form: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """(k,) rows of each element's lowest entry, of the elements (atomic numbers) that have one."""
    single = np.flatnonzero((counts > 0).sum(axis=1) == 1)
    numbers = counts[single].argmax(axis=1)
    rows = [single[numbers == z] for z in elements]
    return np.array([own[np.argmin(e_form[own])] for own in rows if len(own)], np.int64)
