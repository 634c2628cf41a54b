"""A fast test that only ever rejects pairs which StructureMatcher (default tolerances) rejects too.

StructureMatcher tries every mapping of one lattice onto the other and every translation of the rarest element, and
goes on only where each site has a site of its element near by. Those two steps are repeated here for all mappings of
a pair at once, with tolerances a hair wider than the matcher's; a pair that passes is left to the matcher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LTOL, STOL, ANGLE_TOL = 0.2, 0.3, 5.0  # StructureMatcher's defaults
WIDER = 1 + 1e-6  # over its tolerances, so that rounding never rejects what it accepts
BLOCK = 1 << 18  # numbers compared at once


@dataclass(frozen=True)
class Cell:
    """A reduced crystal scaled to unit volume, as the matcher's comparisons do not depend on scale."""

    lattice: np.ndarray  # (3, 3)
    lengths: np.ndarray  # (3,)
    angles: np.ndarray  # (3,) alpha, beta, gamma in degrees
    frac_coords: np.ndarray  # (n, 3)
    numbers: np.ndarray  # (n,)

    @classmethod
    def of(cls, lattice: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray) -> Cell:
        lattice = lattice / abs(np.linalg.det(lattice)) ** (1 / 3)
        lengths = np.linalg.norm(lattice, axis=1)
        pairs = [(1, 2), (0, 2), (0, 1)]
        cosines = [lattice[i] @ lattice[j] / (lengths[i] * lengths[j]) for i, j in pairs]
        return cls(lattice, lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1))), frac_coords, numbers)


def may_match(first: Cell, second: Cell) -> bool:
    """False only where StructureMatcher().fit(first, second) is False. The cells hold the same atoms."""
    mappings, lengths, angles = _lattice_mappings(first, second)
    if not len(mappings):
        return False
    tolerance = _frac_tolerance((lengths + second.lengths) / 2, (angles + second.angles) / 2, len(first.numbers))
    same = second.numbers[:, None] == first.numbers  # (second, first)
    rarest = same.sum(axis=1).argmin()
    anchors = np.flatnonzero(same[rarest])
    chunk = max(1, BLOCK // (3 * len(anchors) * same.size))
    offset = second.frac_coords - second.frac_coords[rarest]
    for start in range(0, len(mappings), chunk):
        part = slice(start, start + chunk)
        frac = first.frac_coords @ np.linalg.inv(mappings[part])  # (m, n, 3)
        # Sites of the second crystal, moved so that its rarest site lies on each anchor, against those of the first.
        moved = frac[:, anchors, None, :] + offset  # (m, anchors, n, 3)
        gap = moved[:, :, :, None, :] - frac[:, None, None, :, :]
        gap -= np.round(gap)
        near = (np.abs(gap) <= tolerance[part, None, None, None, :]).all(axis=-1) & same
        if near.any(axis=-1).all(axis=-1).any():
            return True
    return False


def _lattice_mappings(first: Cell, second: Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integer matrices (m, 3, 3) making the first lattice like the second; lengths and angles (m, 3) that they give."""
    radius = second.lengths.max() * (1 + LTOL) * WIDER
    reach = np.ceil(radius * np.linalg.norm(np.linalg.inv(first.lattice), axis=0)).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = steps @ first.lattice
    distance = np.linalg.norm(vectors, axis=1)
    ratio = distance[:, None] / second.lengths
    a, b, c = (np.flatnonzero((r < (1 + LTOL) * WIDER) & (r > 1 / (1 + LTOL) / WIDER)) for r in ratio.T)
    unit = vectors / np.maximum(distance, 1e-12)[:, None]
    alpha, beta, gamma = (
        np.degrees(np.arccos(np.clip(unit[i] @ unit[j].T, -1, 1))) for i, j in ((b, c), (a, c), (a, b))
    )
    fits = [
        np.abs(x - angle) <= ANGLE_TOL * WIDER for x, angle in zip((alpha, beta, gamma), second.angles, strict=True)
    ]
    i, j, k = np.nonzero(fits[2][:, :, None] & fits[0][None, :, :] & fits[1][:, None, :])
    mappings = np.stack([steps[a[i]], steps[b[j]], steps[c[k]]], axis=1).astype(float)
    primitive = np.abs(np.abs(np.linalg.det(mappings)) - 1) < 0.5
    i, j, k = i[primitive], j[primitive], k[primitive]
    lengths = np.stack([distance[a[i]], distance[b[j]], distance[c[k]]], axis=1)
    return mappings[primitive], lengths, np.stack([alpha[j, k], beta[i, k], gamma[i, j]], axis=1)


def _frac_tolerance(lengths: np.ndarray, angles: np.ndarray, n_sites: int) -> np.ndarray:
    """(m, 3) how far apart in fractional coordinates two sites may lie, in cells of lengths and angles (m, 3).

    2 stol (V / n)^(1/3) times the reciprocal lengths: the matcher's own bound.
    """
    cosine, sine = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    squared = 1 - np.square(cosine).sum(axis=1) + 2 * cosine.prod(axis=1)
    volume = lengths.prod(axis=1) * np.sqrt(np.maximum(squared, 1e-12))
    reciprocal = lengths[:, [1, 0, 0]] * lengths[:, [2, 2, 1]] * sine / volume[:, None]
    return reciprocal * (2 * STOL * WIDER * np.cbrt(volume / n_sites))[:, None]
