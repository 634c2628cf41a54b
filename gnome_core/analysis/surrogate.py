"""A quick model of energies for replays: a forest over what composition and bonding say, with its own spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.neighbors import neighbor_list
from gnome_core.models.elements import element_properties

N_SCALARS = 3  # of the element properties: electronegativity, radius, Mendeleev number
ATOM_VOLUME = 20.0  # Å^3 that every crystal is scaled to, so that bond lengths do not give the relaxed volume away
BOND = 1.25  # times the shortest distance of a site: what counts as its bonds
CUTOFF = 6.0  # Å
TREES = 60


def composition_features(atom_counts: np.ndarray) -> np.ndarray:
    """(n, k) means, spreads and extremes of element properties over compositions (n, 95)."""
    properties = element_properties().astype(np.float64)
    scalars = properties[:, :N_SCALARS]
    fractions = atom_counts / atom_counts.sum(axis=1, keepdims=True)
    mean = fractions @ properties
    spread = np.sqrt(np.maximum(fractions @ scalars**2 - mean[:, :N_SCALARS] ** 2, 0))
    present = (atom_counts > 0)[:, :, None]
    largest, smallest = np.where(present, scalars, -np.inf).max(axis=1), np.where(present, scalars, np.inf).min(axis=1)
    order = np.square(fractions).sum(axis=1, keepdims=True)
    return np.hstack([mean, spread, largest, smallest, largest - smallest, order, present.sum(axis=1)])


def bond_features(crystals: Sequence[Crystal]) -> np.ndarray:
    """(n, k) of each crystal's bonds: differences of element properties along them, coordination, evenness of lengths.

    The crystals are scaled to one volume an atom first; what is left of the relaxed geometry are relative positions.
    """
    scalars = element_properties().astype(np.float64)[:, :N_SCALARS]
    features = np.zeros((len(crystals), 3 * N_SCALARS + 4))
    for row, crystal in zip(features, crystals, strict=True):
        scaled = crystal.scaled_to_volume(ATOM_VOLUME * crystal.n_sites)
        bonds = neighbor_list(scaled, CUTOFF)
        if not len(bonds.senders):
            continue
        steps = scaled.frac_coords[bonds.receivers] + bonds.images - scaled.frac_coords[bonds.senders]
        distance = np.linalg.norm(steps @ scaled.lattice, axis=1)
        nearest = np.full(crystal.n_sites, np.inf)
        np.minimum.at(nearest, bonds.senders, distance)
        bonded = distance <= BOND * nearest[bonds.senders]
        senders, receivers = bonds.senders[bonded], bonds.receivers[bonded]
        difference = np.abs(scalars[crystal.numbers[senders]] - scalars[crystal.numbers[receivers]])
        coordination = np.bincount(senders, minlength=crystal.n_sites)
        nearest = nearest[np.isfinite(nearest)]
        row[:N_SCALARS], row[N_SCALARS : 2 * N_SCALARS] = difference.mean(axis=0), difference.std(axis=0)
        row[2 * N_SCALARS : 3 * N_SCALARS] = (coordination[:, None] * scalars[crystal.numbers]).mean(axis=0)
        row[3 * N_SCALARS :] = coordination.mean(), coordination.std(), nearest.mean(), nearest.std()
    return features


def forest_predictions(
    known: np.ndarray, labels: np.ndarray, asked: np.ndarray, *, seed: int, jobs: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(median, interquartile range), each (q,), over the trees of a forest fitted to (known (n, k), labels (n,)).

    Extremely randomised trees (Geurts et al., Mach. Learn. 63, 3, 2006): an ensemble whose spread grows away from
    what it knows.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(TREES, max_features=0.3, random_state=seed, n_jobs=jobs).fit(known, labels)
    asked = asked.astype(np.float32)  # what the trees compare with
    trees = np.array([tree.predict(asked) for tree in forest.estimators_])
    low, median, high = np.percentile(trees, (25, 50, 75), axis=0)
    return median, high - low
