"""Clusters of equal structures: connected components of pairwise matches by pymatgen's StructureMatcher."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.fits import possible_fits
from gnome_core.matching.reduced import reduce_crystals


def cluster_structures(crystals: Sequence[Crystal], energies: np.ndarray) -> np.ndarray:
    """(n,) int64 labels of the connected components of pairwise StructureMatcher fits.

    crystals: n crystals of any compositions; energies: (n,) eV/atom, which only name the clusters: label 0 holds the
    lowest energy, 1 the lowest of the rest, and so on (equal energies: first position). The partition is that of
    StructureMatcher().fit(crystals[i], crystals[j]) over all i < j; pairs already joined through others are not tried.

    Raises ValueError when an energy is not finite or the lengths differ.
    """
    energies = np.asarray(energies, np.float64)
    if len(energies) != len(crystals):
        raise ValueError(f"{len(crystals)} crystals but {len(energies)} energies; one each per crystal")
    if not np.isfinite(energies).all():
        raise ValueError(f"energy of crystal {np.flatnonzero(~np.isfinite(energies))[0]} is not finite; leave it out")
    reduced = reduce_crystals(crystals)
    same_content = defaultdict(list)
    for position, crystal in enumerate(reduced):
        same_content[crystal.content].append(position)
    parent = list(range(len(crystals)))
    for members in same_content.values():
        for place, i in enumerate(members):
            others = [j for j in members[place + 1 :] if _root(parent, j) != _root(parent, i)]
            for position, fits in possible_fits(reduced[i], [reduced[j] for j in others]):
                j = others[position]
                if _root(parent, j) != _root(parent, i) and fits():
                    parent[_root(parent, j)] = _root(parent, i)
    roots = np.array([_root(parent, position) for position in range(len(crystals))], np.int64)
    label: dict[int, int] = {}
    for position in np.argsort(energies, kind="stable"):
        label.setdefault(int(roots[position]), len(label))
    return np.array([label[int(root)] for root in roots], np.int64)


def representatives(labels: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """(clusters,) positions of each cluster's lowest energy, by label; the first of equal ones."""
    order = np.lexsort((np.arange(len(labels)), energies, labels))
    first = np.ones(len(order), bool)
    first[1:] = np.diff(np.asarray(labels)[order]) != 0
    return order[first]


def distinct_structures(crystals: Sequence[Crystal], held: Sequence[Crystal] = ()) -> np.ndarray:
    """(n,) int64 labels of the structures, numbered by their first crystals; -1 where one of `held` is the same.

    Which are the same: see `cluster_structures`.
    """
    labels = cluster_structures([*held, *crystals], np.arange(len(held) + len(crystals), dtype=np.float64))
    n_held = labels[: len(held)].max(initial=-1) + 1
    return np.maximum(labels[len(held) :] - n_held, -1)


def _root(parent: list[int], position: int) -> int:
    while parent[position] != position:
        parent[position] = parent[parent[position]]
        position = parent[position]
    return position
