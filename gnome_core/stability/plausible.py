"""What no crystal looks like, whoever computed it: limits on density, distances, cohesion and formation energy.

A relaxation can end where its evaluator knows nothing and still converge: a cell blown up until atoms hardly feel each
other has small forces, and its energy is an extrapolation (fluorine at 2.6 times the volume of its atoms lies 0.11
eV/atom below the ground state by CHGNet 0.3.0, where PBE has it level). Comparing the end with the start does not show
it, for the start may be wrong as well. The limits are absolute, and stand outside what `benchmarks/plausible.py` finds
among 31,235 crystals of the Materials Project (quantiles below): together they refuse 15 of those, 0.05 %, nearly all
of them broken entries.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.volume import atomic_volumes
from gnome_core.graphs.neighbors import neighbor_list
from gnome_core.units import PLAUSIBLE_E_FORM

# Å, the embedded evaluator's cutoff. The atom farthest from any other is 5.65 Å away (Cs7O; 99.99 % 5.32).
SIGHT = 6.0
# Cell volume over the sum of atomic volumes, of each element's largest for the upper limit and smallest for the lower.
# Upper: 99.9 % of crystals lie below 1.94, frameworks of SiO2 reach 2.56; lower: all but a broken entry above 0.73.
LOOSEST = 2.5
DENSEST = 0.65
# Distance over the sum of covalent radii (Cordero et al., Dalton Trans. 2008, 2832): the shortest is 0.634, 99.99 % of
# crystals have none below 0.651.
CLOSEST = 0.6
# eV/atom. Labels reach from -4.5 to 2.3 (99.98 %); PLAUSIBLE_E_FORM bounds them below.
HIGHEST_E_FORM = 3.0

# Å^3/atom of the fcc solids (Kittel, Introduction to Solid State Physics, 8th ed., ch. 1, table 3; helium, hcp, under
# pressure): too few crystals hold noble gases for a fitted volume.
NOBLE_GASES = {2: 15.0, 10: 22.2, 18: 37.4, 36: 44.9, 54: 57.6}


def implausible(crystal: Crystal, e_form_per_atom: float) -> str | None:
    """Why a computed crystal is taken for nonsense, as a short snake_case name, or None.

    e_form_per_atom: eV/atom; NaN is refused.
    """
    return implausible_geometry(crystal) or implausible_energy(e_form_per_atom)


def implausible_energy(e_form_per_atom: float) -> str | None:
    """`implausible_energy` for a formation energy (eV/atom) that no solid has, or NaN; else None."""
    return None if -PLAUSIBLE_E_FORM <= e_form_per_atom <= HIGHEST_E_FORM else "implausible_energy"


def implausible_geometry(crystal: Crystal) -> str | None:
    """The first that holds of these, or None. The crystal must have passed `check_crystal`.

    isolated_atom: an atom without a neighbour within SIGHT. separate_fragments: molecules or chains that far from all
    others; nearer they are a molecular crystal. Layers may be that far apart, for evaluators without dispersion let
    them drift at hardly any change of energy. implausible_volume: atoms fill too little of the
    cell, or more than it holds. implausible_distance: two atoms nearer than any bond.
    """
    senders, receivers, images = neighbor_list(crystal, SIGHT)
    if len(np.unique(senders)) < crystal.n_sites:
        return "isolated_atom"
    if _dimensions(crystal.n_sites, senders, receivers, images).min() < 2:
        return "separate_fragments"
    largest, smallest = extreme_volumes()
    if not (DENSEST * smallest[crystal.numbers].sum() <= crystal.volume <= LOOSEST * largest[crystal.numbers].sum()):
        return "implausible_volume"
    steps = crystal.frac_coords[receivers] + images - crystal.frac_coords[senders]
    distances = np.linalg.norm(steps @ crystal.lattice, axis=1)
    radii = _covalent_radii()[crystal.numbers]
    if (distances < CLOSEST * (radii[senders] + radii[receivers])).any():
        return "implausible_distance"
    return None


def _dimensions(n_sites: int, senders: np.ndarray, receivers: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(n,) directions in which what an atom is linked to goes on for ever: 0 in a molecule, 2 in a layer, 3 in a solid.

    In a block of two cells each way whose opposite faces are joined, an atom's eight copies are in one piece where all
    directions are linked, and in twice as many for each direction that is not.
    """
    corners = np.array(list(product((0, 1), repeat=3)))
    ends = (corners[:, None] + images) % 2 @ (4, 2, 1)  # (8, e): the corner in which an edge ends
    first = (n_sites * np.arange(8)[:, None] + senders).ravel()
    second = (n_sites * ends + receivers).ravel()
    edges = coo_array((np.ones(len(first), bool), (first, second)), shape=(8 * n_sites, 8 * n_sites))
    pieces = np.sort(connected_components(edges, directed=False)[1].reshape(8, n_sites), axis=0)
    return 3 - np.log2(1 + (np.diff(pieces, axis=0) > 0).sum(axis=0)).astype(int)


@lru_cache(maxsize=1)
def extreme_volumes() -> tuple[np.ndarray, np.ndarray]:
    """(256,) Å^3 each: the largest and the smallest volume of an atom, by atomic number."""
    volumes = atomic_volumes().copy()
    volumes[:, list(NOBLE_GASES)] = list(NOBLE_GASES.values())
    return volumes.max(axis=0), volumes.min(axis=0)


@lru_cache(maxsize=1)
def _covalent_radii() -> np.ndarray:
    """Å, by atomic number."""
    from ase.data import covalent_radii

    return covalent_radii
