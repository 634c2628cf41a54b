"""Energies of elements that a potential adds to its network's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gnome_core.potentials.frames import LabelledFrames
from gnome_core.training.potential.config import PotentialTrainingConfig


def starting_shifts(
    train: LabelledFrames, training: PotentialTrainingConfig, references: Mapping[int, float] | None
) -> np.ndarray:
    """(levels, 256) eV by atomic number that the network starts from; NaN for elements that the frames lack."""
    if training.shifts == "fit":
        return fit_shifts(train, train.energies)
    references = references or {}
    if missing := set(train.elements) - set(references):
        raise ValueError(f'shifts = "references" needs a reference energy of atomic numbers {sorted(missing)}')
    if train.level.any():
        raise ValueError('shifts = "references" is for frames of one level of theory; use "fit"')
    table = np.full((1, 256), np.nan)
    table[0, list(references)] = list(references.values())
    return table


def fit_shifts(frames: LabelledFrames, energies: np.ndarray) -> np.ndarray:
    """(levels, 256) eV by atomic number: least squares of the energies per atom over compositions, level by level; NaN
    for elements that a level lacks.

    Least squares of smallest norm: frames of one composition share their energy out evenly.
    """
    shifts = np.full((int(frames.level.max()) + 1, 256), np.nan)
    for level in np.unique(frames.level):
        rows = np.flatnonzero(frames.level == level)
        elements = np.array(frames.take(rows).elements)
        counts = np.array([(frames.crystals[i].numbers[:, None] == elements).sum(0) for i in rows], float)
        n_atoms = counts.sum(1, keepdims=True)
        solution, *_ = np.linalg.lstsq(counts / n_atoms, energies[rows] / n_atoms[:, 0], rcond=1e-8)
        shifts[level, elements] = solution
    return shifts
