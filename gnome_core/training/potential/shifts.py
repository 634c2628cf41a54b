"""Energies of elements that a potential adds to its network's: (levels of theory, 256) eV by atomic number."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gnome_core.potentials.frames import LabelledFrames
from gnome_core.training.potential.config import PotentialTrainingConfig


def starting_shifts(
    train: LabelledFrames, levels: int, training: PotentialTrainingConfig, references: Mapping[int, float] | None
) -> np.ndarray:
    """(levels, 256) eV by atomic number that the network starts from; NaN for elements that the frames lack.

    Raises ValueError for references that are missing or stand for several levels of theory.
    """
    if training.shifts == "fit":
        return fit_shifts(train, train.energies, levels)
    references = references or {}
    known = {z for z, energy in references.items() if np.isfinite(energy)}
    if missing := set(train.elements) - known:
        raise ValueError(f'shifts = "references" needs a reference energy of atomic numbers {sorted(missing)}')
    if train.level.any():
        raise ValueError('shifts = "references" is for frames of one level of theory; use "fit"')
    table = np.full((levels, 256), np.nan)
    table[0, list(train.elements)] = [references[z] for z in train.elements]
    return table


def explain_the_rest(
    train: LabelledFrames, shifts: np.ndarray, residual: np.ndarray, training: PotentialTrainingConfig
) -> np.ndarray:
    """The shifts with what they and the network before training leave unexplained, be it pretrained or random.

    residual: (n,) eV of the cells. It is fitted element by element; above references only its mean per atom is added,
    as the network's output has one constant in the paper (Nature 624, 80, 2023, Methods), so that differences between
    elements stay those of the references.
    """
    if training.shifts == "references":
        return shifts + np.mean(residual / [c.n_sites for c in train.crystals])
    return shifts + fit_shifts(train, residual, len(shifts))


def fit_shifts(frames: LabelledFrames, energies: np.ndarray, levels: int = 1) -> np.ndarray:
    """(levels, 256) eV by atomic number: least squares of the energies per atom over compositions, level by level; NaN
    for elements that a level lacks, and for levels that the frames lack.

    Least squares of smallest norm: frames of one composition share their energy out evenly.
    """
    shifts = np.full((levels, 256), np.nan)
    for level in np.unique(frames.level):
        rows = np.flatnonzero(frames.level == level)
        elements = np.array(frames.take(rows).elements)
        counts = np.array([(frames.crystals[i].numbers[:, None] == elements).sum(0) for i in rows], float)
        n_atoms = counts.sum(1, keepdims=True)
        solution, *_ = np.linalg.lstsq(counts / n_atoms, energies[rows] / n_atoms[:, 0], rcond=1e-8)
        shifts[level, elements] = solution
    return shifts
