"""Lower convex hull of formation energies over composition: facets by Qhull, single points by linear program.

Everything here works on one chemical system of k elements: `fractions` (m, k), rows summing to 1, and `energies`
(m,) in eV/atom. A facet is a plane c with energy c . x at composition x; the hull at x is the largest of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from scipy.spatial import ConvexHull, QhullError

# Facets of m points in k elements grow like m^(k/2): past these sizes one linear program a query is cheaper.
MAX_POINTS = {1: 100_000, 2: 100_000, 3: 50_000, 4: 10_000, 5: 2_000, 6: 600}
DEGENERATE = 1e-10  # |det| of a facet's vertices: a thinner one gives planes that are eV/atom off
ABOVE_POINT = 1e-7  # eV/atom by which a plane may pass above a point
MOST_SUBSETS = 500  # sets of k points up to which trying them all is faster than Qhull
QUERY_CHUNK = 1 << 16  # numbers in one block of queries x facets: it stays in the processor's cache


class Facets(NamedTuple):
    """planes: (f, k) eV/atom, the energy of each pure element on the plane; vertices: (f, k) rows of the points.

    distinct: (d, k) the planes, those of coplanar facets once.
    """

    planes: np.ndarray
    vertices: np.ndarray
    distinct: np.ndarray


def lower_facets(fractions: np.ndarray, energies: np.ndarray) -> Facets | None:
    """The facets of the lower hull, or None where they cannot be trusted or are too many (use `solve`).

    The first k rows are the pure elements in order, at energy 0; all others lie below 0.

    Facets that are degenerate or pass above a point are dropped; what is left must tile the whole composition
    simplex (its volumes add up to 1), which proves the answer: a plane below every point bounds the hull from below,
    and inside its own facet it is reached. Qhull first runs exactly, then joggled, before we give up.
    """
    m, k = fractions.shape
    if m == k:
        return Facets(np.zeros((1, k)), np.arange(k)[None], np.zeros((1, k)))
    if m > MAX_POINTS.get(k, 0):
        return None
    for vertices in _proposed_facets(fractions, energies):
        corners = fractions[vertices]
        volumes = np.abs(np.linalg.det(corners))
        solid = volumes > DEGENERATE
        vertices, volumes = vertices[solid], volumes[solid]
        planes = np.linalg.solve(corners[solid], energies[vertices][:, :, None])[:, :, 0]
        below = (planes @ fractions.T <= energies + ABOVE_POINT).all(axis=1)
        if abs(volumes[below].sum() - 1.0) < 1e-8:
            order = np.lexsort(vertices[below].T)  # Qhull's order is its own business; ours is fixed
            planes, distinct = _merge_coplanar(planes[below][order])
            return Facets(planes, vertices[below][order].astype(np.int32), distinct)
    return None


def _proposed_facets(fractions: np.ndarray, energies: np.ndarray) -> Iterator[np.ndarray]:
    """(n, k) rows of points, ascending, among which the facets may be; further ones in case they do not tile."""
    m, k = fractions.shape
    if comb(m, k) <= MOST_SUBSETS:
        yield _subsets(m, k)
    # A point far above closes the hull from the top; every facet through it is discarded.
    points = np.vstack([np.column_stack([fractions[:, 1:], energies]), np.append(np.full(k - 1, 1 / k), 10.0)])
    for options in ("Qt Qx" if k > 4 else "Qt", "QJ"):
        with suppress(QhullError):
            simplices = ConvexHull(points, qhull_options=options).simplices
            yield np.sort(simplices[(simplices != m).all(axis=1)], axis=1)


@cache
def _subsets(m: int, k: int) -> np.ndarray:
    return np.array(list(combinations(range(m), k)))


def hull_energies(planes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(q,) hull energies, eV/atom, at queries (q, k): one product with the planes (f, k), then the largest.

    BLAS rounds a product differently in batches of different sizes, and a query on the border of two facets ties
    their planes. So the product only chooses the plane, 1e-10 to one side of the query (an error below 1e-8 eV/atom),
    and the energy is summed again row by row: it is the same to the last bit in any batch.
    """
    aside = queries + 1e-10 * np.sqrt(np.arange(2, planes.shape[1] + 2))
    plane = np.empty(len(queries), np.int64)
    chunk = max(1, QUERY_CHUNK // len(planes))
    for start in range(0, len(queries), chunk):
        (aside[start : start + chunk] @ planes.T).argmax(axis=1, out=plane[start : start + chunk])
    return (planes[plane] * queries).sum(axis=1)


def _merge_coplanar(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The planes, those equal but for rounding made equal to the last bit; and one of each."""
    rounded = np.round(planes, 9)
    order = np.lexsort(rounded.T)
    first = np.ones(len(planes), bool)
    first[1:] = (rounded[order[1:]] != rounded[order[:-1]]).any(axis=1)
    distinct = planes[order[first]]
    merged = np.empty_like(planes)
    merged[order] = distinct[np.cumsum(first) - 1]
    return merged, distinct


def facet_amounts(facets: Facets, fractions: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Vertices (k,) and atom fractions (k,) of the facet that holds the query (k,); None if rounding hides it."""
    values = facets.planes @ query
    # Coplanar facets tie: the right one is that with no negative amount.
    tied = np.flatnonzero(values >= values.max() - 1e-9)
    corners = fractions[facets.vertices[tied]]
    amounts = np.linalg.solve(corners.transpose(0, 2, 1), np.broadcast_to(query[:, None], (len(tied), len(query), 1)))
    amounts = amounts[:, :, 0]
    best = int(amounts.min(axis=1).argmax())
    if amounts[best].min() < -1e-8:
        return None
    return facets.vertices[tied[best]], np.clip(amounts[best], 0.0, None)


def energies_without(facets: Facets, fractions: np.ndarray, energies: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """(v,) hull energy, eV/atom, at each of the points `vertices` (no pure elements), of all points but this one.

    Without a vertex the hull changes only where its own facets were, so only the points between their corners, and
    the pure elements, can take its place.
    """
    k = fractions.shape[1]
    inverse = np.linalg.inv(fractions[facets.vertices].transpose(0, 2, 1))
    left = np.empty(len(vertices))
    for row, vertex in enumerate(vertices):
        own = (facets.vertices == vertex).any(axis=1)
        if not own.any():  # on a facet of others
            left[row] = energies[vertex]
            continue
        inside = (inverse[own] @ fractions.T >= -1e-9).all(axis=1).any(axis=0)
        inside[vertex] = False
        near = np.flatnonzero(inside)
        if len(near) == k:  # they are the corners of the one facet that closes the gap
            left[row] = np.linalg.solve(fractions[near].T, fractions[vertex]) @ energies[near]
            continue
        inside[:k] = True
        rest = lower_facets(fractions[inside], energies[inside])
        if rest is None:
            left[row] = solve(fractions[inside], energies[inside], fractions[vertex])[0]
        else:
            left[row] = hull_energies(rest.distinct, fractions[None, vertex])[0]
    return left


def solve(fractions: np.ndarray, energies: np.ndarray, query: np.ndarray) -> tuple[float, np.ndarray]:
    """Hull energy (eV/atom) at the query (k,) and atom fractions (m,) of every point, by linear program (HiGHS).

    Minimise energies . w subject to fractions^T w = query, w >= 0. Exact for any number of elements.
    """
    from scipy.optimize import linprog  # loads for half a second, and few hulls need it

    result = linprog(
        energies,
        A_eq=fractions.T,
        b_eq=query,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if result.status != 0:
        raise RuntimeError(f"the linear program of a hull of {len(energies)} points failed: {result.message}")
    return float(result.fun), result.x
