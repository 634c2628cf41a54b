"""Supercells by size."""

import numpy as np

from gnome_core.crystals.supercells import repeated
from tests.gnome_core.potentials.samples import SKEWED


def test_supercells_reach_the_length_in_every_direction():
    large = repeated(SKEWED, 9.0)
    heights = 1 / np.linalg.norm(np.linalg.inv(large.lattice), axis=0)
    assert (heights >= 9.0).all()
    assert large.n_sites == SKEWED.n_sites * round(large.volume / SKEWED.volume)
    assert np.array_equal(np.unique(large.numbers), np.unique(SKEWED.numbers))
    assert repeated(SKEWED, 0.0).n_sites == SKEWED.n_sites
