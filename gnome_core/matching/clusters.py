"""Clusters of equal structures: connected components of pairwise matches by pymatgen's StructureMatcher."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.prefilter import Cell, may_match

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Reduced(NamedTuple):
    """A crystal ready for matching."""

    structure: Structure  # pymatgen's, primitive and Niggli reduced
    cell: Cell
    content: tuple[int, ...]  # sorted atomic numbers of the reduced cell


class Matcher:
    """StructureMatcher with its default tolerances (ltol 0.2, stol 0.3, angle_tol 5; primitive cells, volumes scaled).

    Primitive and Niggli reduction, about two thirds of the cost of a match, happens once a crystal in `reduce`.
    """

    def __init__(self):
        from pymatgen.core.structure_matcher import StructureMatcher

        self._matcher = StructureMatcher()

    def reduce(self, crystal: Crystal) -> Reduced:
        """The primitive Niggli cell that the matcher compares."""
        from pymatgen.core import Lattice, Structure

        structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac_coords)
        # The reduction that StructureMatcher.fit applies to both of its arguments.
        structure = structure.get_reduced_structure(reduction_algo="niggli").get_primitive_structure()
        numbers = np.array(structure.atomic_numbers)
        cell = Cell.of(structure.lattice.matrix, structure.frac_coords, numbers)
        return Reduced(structure, cell, tuple(np.sort(numbers).tolist()))

    def fit(self, first: Reduced, second: Reduced) -> bool:
        """Whether two reduced crystals match. The order counts: a few pairs match one way only."""
        return (
            # Without supercells, cells that hold different atoms never match.
            first.content == second.content
            and may_match(first.cell, second.cell)
            and bool(self._matcher.fit(first.structure, second.structure, skip_structure_reduction=True))
        )


def cluster_structures(crystals: Sequence[Crystal], energies: np.ndarray) -> np.ndarray:
    """(n,) int64 labels of the connected components of pairwise StructureMatcher fits.

    crystals: n crystals of any compositions; energies: (n,) eV/atom, which only name the clusters: label 0 holds the
    lowest energy, 1 the lowest of the rest, and so on (equal energies: first position). The partition is that of
    StructureMatcher().fit(crystals[i], crystals[j]) over all i < j; pairs already joined through others, and those
    that `may_match` excludes, are not tried.

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
    for position, crystal in enumerate(reduced):
        same_content[crystal.content].append(position)
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


def _nearest_first(members: list[int], reduced: Sequence[Reduced]) -> Iterator[tuple[int, int]]:
    """All pairs i < j, those of the most similar cell shapes first: matches found early spare later fits."""
    shape = np.array([np.append(reduced[i].cell.lengths, reduced[i].cell.angles / 60) for i in members])
    left, right = np.triu_indices(len(members), 1)
    for pair in np.argsort(np.abs(shape[left] - shape[right]).sum(axis=1), kind="stable"):
        yield members[left[pair]], members[right[pair]]


def _root(parent: list[int], position: int) -> int:
    while parent[position] != position:
        parent[position] = parent[parent[position]]
        position = parent[position]
    return position
