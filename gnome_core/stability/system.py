"""The hull of one chemical system, and how a composition decomposes on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gnome_core.stability import facets as geometry

BELOW_ZERO = 1e-11  # eV/atom: a compound can reach the hull only below the elements' plane
SAME_COMPOSITION = 9  # decimals of the atomic fractions


class Decomposition(NamedTuple):
    """One product of a decomposition: index of the entry, and its share of the atoms."""

    entry: int
    atom_fraction: float


@dataclass(frozen=True)
class System:
    """The lower hull of one chemical system: its candidate entries, and their facets unless they need the program."""

    elements: tuple[int, ...]  # k atomic numbers, ascending: the order of the columns
    rows: np.ndarray  # (m,) entry indices; the first k are the elements
    fractions: np.ndarray  # (m, k)
    energies: np.ndarray  # (m,) relative to the elements
    elemental: np.ndarray  # (k,) energies of the elements, eV/atom
    facets: geometry.Facets | None

    @property
    def nbytes(self) -> int:
        arrays = [self.rows, self.fractions, self.energies, *(self.facets or ())]
        return sum(array.nbytes for array in arrays)

    def hull_energies(self, queries: np.ndarray) -> np.ndarray:
        """(q,) eV/atom at queries (q, k)."""
        return self.relative_energies(queries) + (queries * self.elemental).sum(axis=1)

    def relative_energies(self, queries: np.ndarray) -> np.ndarray:
        """(q,) eV/atom at queries (q, k), relative to the elements as `energies` are."""
        if self.facets is not None:
            return geometry.hull_energies(self.facets.distinct, queries)
        return np.array([geometry.solve(self.fractions, self.energies, query)[0] for query in queries])

    def energies_without(self, vertices: np.ndarray) -> np.ndarray:
        """(v,) eV/atom at each of the given points, the hull being that of all points but this one."""
        if self.facets is not None:
            relative = geometry.energies_without(self.facets, self.fractions, self.energies, vertices)
        else:
            points = np.arange(len(self.rows))
            relative = np.array(
                [
                    geometry.solve(self.fractions[points != v], self.energies[points != v], self.fractions[v])[0]
                    for v in vertices
                ]
            )
        return relative + (self.fractions[vertices] * self.elemental).sum(axis=1)

    def decomposition(self, query: np.ndarray) -> list[Decomposition]:
        found = self.facets and geometry.facet_amounts(self.facets, self.fractions, query)
        if not found:
            found = np.arange(len(self.rows)), geometry.solve(self.fractions, self.energies, query)[1]
        return self._products(*found)

    def decomposition_without(self, query: np.ndarray) -> list[Decomposition]:
        """The decomposition into points of other compositions than the query's (k,)."""
        others = np.flatnonzero((np.abs(self.fractions - query) > 10.0**-SAME_COMPOSITION).any(axis=1))
        return self._products(others, geometry.solve(self.fractions[others], self.energies[others], query)[1])

    def _products(self, points: np.ndarray, amounts: np.ndarray) -> list[Decomposition]:
        products = [
            Decomposition(int(self.rows[v]), float(a)) for v, a in zip(points, amounts, strict=True) if a > 1e-8
        ]
        return sorted(products, key=lambda product: (-round(product.atom_fraction, 9), product.entry))


def lower_hull(key: bytes, rows: np.ndarray, fractions: np.ndarray, energies: np.ndarray) -> System:
    """The lower hull of all entries of a system (every element among them)."""
    order = np.lexsort((rows, energies, *np.round(fractions.T, SAME_COMPOSITION)))
    sorted_fractions = np.round(fractions[order], SAME_COMPOSITION)
    first = np.ones(len(order), bool)
    first[1:] = (sorted_fractions[1:] != sorted_fractions[:-1]).any(axis=1)
    lowest = order[first]
    pure = lowest[(fractions[lowest] == 1).any(axis=1)]
    pure = pure[np.argsort(fractions[pure].argmax(axis=1))]
    elemental = energies[pure]
    relative = energies - fractions @ elemental
    compounds = np.sort(lowest[(fractions[lowest] < 1).all(axis=1) & (relative[lowest] < -BELOW_ZERO)])
    kept = np.concatenate([pure, compounds])
    points, heights = fractions[kept], relative[kept]
    heights[: len(pure)] = 0.0
    return System(tuple(key), rows[kept], points, heights, elemental, geometry.lower_facets(points, heights))
