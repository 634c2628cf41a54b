"""Supercells by size."""

from __future__ import annotations

import numpy as np

from gnome_core.crystals.crystal import Crystal


def repeated(crystal: Crystal, min_length: float) -> Crystal:
    """The smallest supercell whose heights (Å) reach `min_length`, images of a site side by side."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)
    repeats = np.maximum(np.ceil(min_length / heights - 1e-6), 1).astype(int)
    images = np.indices(repeats).reshape(3, -1).T
    frac = (crystal.frac_coords[:, None] + images).reshape(-1, 3) / repeats
    return Crystal(crystal.lattice * repeats[:, None], frac, np.repeat(crystal.numbers, len(images)))
