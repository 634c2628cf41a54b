"""Structures around a crystal: what a potential must have seen to be trusted away from minima."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.frames import LabelledFrames, frames_without_stress


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


def denoising_frames(
    crystals: Sequence[Crystal], copies: int, rattle: float, stiffness: float = 1.0, seed: int = 0
) -> LabelledFrames:
    """Rattled copies whose labels lead back to where the atoms were: springs of `stiffness` (eV/Å^2) to the sites.

    Pre-training by denoising needs structures only, no teacher (Zaidi et al., arXiv:2206.00133). rattle: as in
    `distorted`, Å.
    """
    rng = np.random.default_rng(seed)
    noisy, energies, forces = [], [], []
    for crystal in (c for c in crystals for _ in range(copies)):
        moved = distorted(crystal, rng, rattle, 0.0)
        away = (moved.frac_coords - crystal.frac_coords) @ crystal.lattice
        noisy.append(moved)
        energies.append(0.5 * stiffness * float(np.square(away).sum()))
        forces.append(-stiffness * away)
    return frames_without_stress(noisy, np.array(energies), forces, "denoising")


def alchemical(crystal: Crystal, number: int, shortest: float, own_shortest: float) -> Crystal:
    """A structure of one element as one of element `number`: scaled by the ratio of the shortest distances (Å).

    Gardner et al., "Synthetic pre-training for neural-network interatomic potentials", arXiv:2307.15714.
    """
    ratio = shortest / own_shortest
    return Crystal(crystal.lattice * ratio, crystal.frac_coords, np.full(crystal.n_sites, number, np.uint8))
