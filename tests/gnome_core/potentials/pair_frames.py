"""Frames labelled by a pair potential: what a network learns in seconds."""

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.neighbors import neighbor_list
from gnome_core.potentials.frames import LabelledFrames
from tests.gnome_core.potentials.samples import FCC

CUTOFF = 4.0
SIZES = {29: 1.0, 47: 1.1}  # relative diameters of the two elements
ALONE = {29: -2.0, 47: 3.0}  # eV of an isolated atom


def pair_label(crystal: Crystal) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy, forces and stress of Morse pairs, 0.6 eV deep, that fade as (1 - (r / cutoff)^2)^2."""
    first, second, images = neighbor_list(crystal, CUTOFF)
    vectors = (crystal.frac_coords[second] + images - crystal.frac_coords[first]) @ crystal.lattice
    r = np.linalg.norm(vectors, axis=1)
    sizes = np.array([SIZES[int(z)] for z in crystal.numbers])
    well = np.exp(-1.6 * (r - 1.25 * (sizes[first] + sizes[second])))
    morse, morse_slope = 0.6 * (well**2 - 2 * well), 0.6 * -1.6 * 2 * (well**2 - well)
    fade, fade_slope = (1 - (r / CUTOFF) ** 2) ** 2, -4 * r / CUTOFF**2 * (1 - (r / CUTOFF) ** 2)
    energy = 0.5 * (morse * fade).sum() + sum(ALONE[int(z)] for z in crystal.numbers)
    slope = morse_slope * fade + morse * fade_slope
    pulls = slope[:, None] * vectors / r[:, None]
    forces = np.zeros((crystal.n_sites, 3))
    np.add.at(forces, first, pulls)
    stress = 0.5 * vectors.T @ pulls / crystal.volume
    return energy, forces, stress


def pair_frames(n: int, seed: int = 0, elements: tuple[int, ...] = (29, 47)) -> LabelledFrames:
    """n rattled, strained fcc cells of four atoms; every fourth one is the first of its group of four."""
    rng = np.random.default_rng(seed)
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    crystals = []
    for _ in range(n):
        lattice = 3.7 * 2 * (FCC.sum(0) * np.eye(3)) / 2 @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3)))
        crystals.append(Crystal(lattice, sites + rng.normal(scale=0.05, size=(4, 3)), rng.choice(elements, 4)))
    energies, forces, stresses = zip(*map(pair_label, crystals), strict=True)
    index = np.arange(n)
    return LabelledFrames(
        crystals, np.array(energies), forces, np.array(stresses), index % 4 == 0, (index // 4).astype(str), "pair"
    )
