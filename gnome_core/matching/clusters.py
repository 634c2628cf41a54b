"""Clusters of equal structures: connected components of pairwise matches by pymatgen's StructureMatcher."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gnome_core.crystals.crystal import Crystal

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Matcher:
    """StructureMatcher with its default tolerances (ltol 0.2, stol 0.3, angle_tol 5; primitive cells, volumes scaled).

    Primitive and Niggli reduction, about two thirds of the cost of a match, happens once a crystal in `reduce`.
    """

    def __init__(self):
        from pymatgen.core.structure_matcher import StructureMatcher

        self._matcher = StructureMatcher()

    def reduce(self, crystal: Crystal) -> Structure:
        """The reduced primitive cell that the matcher would compare."""
        from pymatgen.core import Lattice, Structure

        structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac_coords)
        # The reduction that StructureMatcher.fit applies to both of its arguments.
        return structure.get_reduced_structure(reduction_algo="niggli").get_primitive_structure()

    def fit(self, first: Structure, second: Structure) -> bool:
        """Whether two reduced structures match. The order counts: a few pairs match one way only."""
        return bool(self._matcher.fit(first, second, skip_structure_reduction=True))


def cell_content(structure: Structure) -> tuple[tuple[int, int], ...]:
    """((Z, atoms in the reduced cell), ...): structures that differ in it never match, since no supercell is tried."""
    numbers, counts = np.unique(structure.atomic_numbers, return_counts=True)
    return tuple(zip(numbers.tolist(), counts.tolist(), strict=True))


def cluster_structures(crystals: Sequence[Crystal], energies: np.ndarray) -> np.ndarray:
    """(n,) int64 labels of the connected components of pairwise StructureMatcher fits.

    crystals: n crystals of any compositions; energies: (n,) eV/atom, which only name the clusters: label 0 holds the
    lowest energy, 1 the lowest of the rest, and so on (equal energies: first position). The partition is that of
    StructureMatcher().fit(crystals[i], crystals[j]) over all i < j; pairs already joined through others, and pairs of
    different cell content, are not tried.

    Raises ValueError when an energy is not finite or the lengths differ.
    """
    energies = np.asarray(energies, np.float64)
    if len(energies) != len(crystals):
        raise ValueError(f"{len(crystals)} crystals but {len(energies)} energies; one each per crystal")
    if not np.isfinite(energies).all():
        raise ValueError(f"energy of crystal {np.flatnonzero(~np.isfinite(energies))[0]} is not finite; leave it out")
    matcher = Matcher()
    reduced = [matcher.reduce(crystal) for crystal in crystals]
    same_content = defaultdict(list)
    for position, structure in enumerate(reduced):
        same_content[cell_content(structure)].append(position)
    parent = list(range(len(crystals)))
    for members in same_content.values():
        for i, j in _nearest_first(members, reduced):
            if _root(parent, i) != _root(parent, j) and matcher.fit(reduced[i], reduced[j]):
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


def _nearest_first(members: list[int], reduced: Sequence[Structure]) -> Iterator[tuple[int, int]]:
    """All pairs i < j, those of the most similar cell shapes first: matches found early spare later fits."""
    shape = np.array([reduced[i].lattice.parameters for i in members])
    shape[:, :3] /= np.array([reduced[i].volume for i in members])[:, None] ** (1 / 3)
    shape[:, 3:] /= 60.0
    left, right = np.triu_indices(len(members), 1)
    for pair in np.argsort(np.abs(shape[left] - shape[right]).sum(axis=1), kind="stable"):
        yield members[left[pair]], members[right[pair]]


def _root(parent: list[int], position: int) -> int:
    while parent[position] != position:
        parent[position] = parent[parent[position]]
        position = parent[position]
    return position
