"""Structures around a crystal: what a potential must have seen to be trusted away from minima."""

from __future__ import annotations

import numpy as np

from gnome_core.crystals.crystal import Crystal


def distorted(crystal: Crystal, rng: np.random.Generator, rattle: float, strain: float) -> Crystal:
    """The crystal with atoms moved and cell strained at random.

    Each draw has a size of its own, uniform from 0 to the largest, so that mild and strong distortions both occur.
    rattle: largest standard deviation of a Cartesian component, Å; strain: likewise of a strain component.
    """
    size = rng.uniform(size=2)
    symmetric = rng.normal(scale=size[0] * strain, size=(3, 3))
    lattice = crystal.lattice @ (np.eye(3) + (symmetric + symmetric.T) / 2)
    moves = rng.normal(scale=size[1] * rattle, size=(crystal.n_sites, 3))
    return Crystal(lattice, crystal.frac_coords + moves @ np.linalg.inv(lattice), crystal.numbers)


def alchemical(crystal: Crystal, number: int, shortest: float, own_shortest: float) -> Crystal:
    """A structure of one element as one of element `number`: scaled by the ratio of the shortest distances (Å).

    Gardner et al., "Synthetic pre-training for neural-network interatomic potentials", arXiv:2307.15714.
    """
    ratio = shortest / own_shortest
    return Crystal(crystal.lattice * ratio, crystal.frac_coords, np.full(crystal.n_sites, number, np.uint8))
