"""pymatgen's StructureMatcher.fit with its default tolerances, of one reduced crystal against many at once.

The matcher maps the first lattice onto the second in every way that keeps lengths within 20 % and angles within 5
degrees, lays every site of the rarest element onto one of the second crystal's, and accepts when after the best
pairing of sites no site is more than 0.3 (V / n)^(1/3) from its partner. Here the mappings to all second crystals are
found together, then those are dropped in which some site has no site of its element near by; only what is left is
paired site by site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import product

import numpy as np

from gnome_core.matching.reduced import Reduced

LTOL, STOL, ANGLE_TOL = 0.2, 0.3, 5.0  # StructureMatcher's defaults
MANY = 128  # second crystals whose mappings are held at once
BLOCK = 1 << 19  # numbers compared at once
MARGIN = 0.01  # over stol: candidates that agree to 1e-4 differ by less in the largest distance of paired sites
FLAT = 1e-3  # (V / n)^(1/3) of a mean cell that is none
FAR = 1e20
MULTIPLIERS = np.array([0x9E3779B97F4A7C15 * k % 2**64 for k in (1, 3, 5, 7, 11, 13)], np.uint64)
IMAGES = np.array(list(product((-1.0, 0.0, 1.0), repeat=3)))


def fit(first: Reduced, second: Reduced) -> bool:
    """StructureMatcher().fit(first, second). The order counts: a few pairs match one way only."""
    return any(decide() for _, decide in possible_fits(first, [second]))


def possible_fits(first: Reduced, others: Sequence[Reduced]) -> Iterator[tuple[int, Callable[[], bool]]]:
    """(position, whether it fits, to be asked if need be) for those of `others` that may fit; no other does."""
    alike = [position for position, other in enumerate(others) if other.content == first.content]
    for start in range(0, len(alike), MANY):
        positions = alike[start : start + MANY]
        candidates = _Candidates(first, [others[position] for position in positions])
        for row, position in enumerate(positions):
            if candidates.of(row):
                yield position, partial(candidates.any_fits, row)


class _Candidates:
    """The mappings of one crystal onto several of equal content that may fit."""

    def __init__(self, first: Reduced, others: Sequence[Reduced]):
        self.same_element = np.nonzero(first.numbers[:, None] == first.numbers)
        target, steps, lengths, angles = _lattice_mappings(first, others)
        lattices = _from_parameters(
            (lengths + _stack(others, "lengths")[target]) / 2, (angles + _stack(others, "angles")[target]) / 2
        )
        size = np.cbrt(np.linalg.det(lattices) / len(first.numbers))
        solid = size > FLAT
        target, steps, lattices, size = target[solid], steps[solid], lattices[solid], size[solid]
        frac_coords = first.frac_coords @ np.linalg.inv(steps)  # (m, n, 3)
        mapping, shift = _near_sites(first, others, target, frac_coords, _frac_tolerance(lattices, size))
        self.bounds = np.searchsorted(target[mapping], np.arange(len(others) + 1))
        self.first = frac_coords[mapping]  # (c, n, 3)
        self.second = _stack(others, "frac_coords")[target[mapping]] + shift[:, None]
        self.lattices, self.size = lattices[mapping], size[mapping]
        # By symmetry many candidates are the same pair of crystals: one of each is paired, the others only if need be.
        keys = _keys(target[mapping], self.first - shift[:, None], first.numbers, self.lattices)
        _, self.group = np.unique(keys, return_inverse=True)
        self.leaders = np.sort(np.unique(self.group, return_index=True)[1])

    def of(self, row: int) -> range:
        """The candidates that map onto others[row]."""
        return range(self.bounds[row], self.bounds[row + 1])

    def any_fits(self, row: int) -> bool:
        """Whether one of them brings every site close to its partner."""
        part = slice(*np.searchsorted(self.leaders, self.bounds[row : row + 2]))
        for leader, (squares, vectors) in zip(self.leaders[part], self._of_leaders[part], strict=True):
            distance = self._largest_distance(leader, squares, vectors)
            if distance < STOL:
                return True
            if distance < STOL + MARGIN:
                same = self.bounds[row] + np.flatnonzero(self.group[self.of(row)] == self.group[leader])
                shortest = self._shortest_vectors(same)
                if any(self._largest_distance(c, *both) < STOL for c, both in zip(same, shortest, strict=True)):
                    return True
        return False

    def _largest_distance(self, candidate: int, squares: np.ndarray, vectors: np.ndarray) -> float:
        """Of paired sites over (V / n)^(1/3), after the shift that makes them close on average."""
        from scipy.optimize import linear_sum_assignment

        paired = vectors[linear_sum_assignment(squares)]
        paired -= paired.sum(axis=0) / len(paired)
        return float(np.sqrt(np.square(paired).sum(axis=1).max()) / self.size[candidate])

    @cached_property
    def _of_leaders(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return self._shortest_vectors(self.leaders)

    def _shortest_vectors(self, candidates: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each candidate the squared distances (n, n) of the second crystal's sites from the first's, and the
        vectors (n, n, 3); FAR where they cannot be partners: other elements, or beyond the tolerance."""
        lattices, size = self.lattices[candidates], self.size[candidates]
        reduced = _lll_reduced(lattices)
        to_reduced = lattices @ np.linalg.inv(reduced)
        second, first = self.same_element
        gap = (self.first[candidates] @ to_reduced)[:, first] - (self.second[candidates] @ to_reduced)[:, second]
        gap -= np.round(gap)  # (c, pairs of one element, 3)
        near = (np.abs(gap) <= _frac_tolerance(reduced, size)[:, None]).all(axis=-1)
        n = self.first.shape[1]
        squares, vectors = np.full((len(gap), n, n), FAR), np.full((len(gap), n, n, 3), FAR)
        row, pair = np.nonzero(near)
        for start in range(0, len(row), BLOCK // 81):
            rows, pairs = row[start : start + BLOCK // 81], pair[start : start + BLOCK // 81]
            images = (gap[rows, pairs][:, None] + IMAGES) @ reduced[rows]
            lengths = np.einsum("pij,pij->pi", images, images)
            place, closest = np.arange(len(rows)), lengths.argmin(axis=1)
            squares[rows, second[pairs], first[pairs]] = lengths[place, closest]
            vectors[rows, second[pairs], first[pairs]] = images[place, closest]
        return list(zip(squares, vectors, strict=True))


def _keys(target: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray, lattices: np.ndarray) -> np.ndarray:
    """(c,) uint64, equal for candidates with one target whose sites (in any order) and mean lattices agree to 1e-4."""
    places = (np.round(frac_coords * 1e4).astype(np.int64) % 10_000).astype(np.uint64)
    sites = _mixed(places @ MULTIPLIERS[:3] + numbers.astype(np.uint64) * MULTIPLIERS[3]).sum(axis=1, dtype=np.uint64)
    metric = np.round(lattices @ lattices.transpose(0, 2, 1) * 1e4).astype(np.int64).astype(np.uint64)
    cell = metric[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]] @ MULTIPLIERS
    return _mixed(sites ^ _mixed(cell + target.astype(np.uint64)))


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: sums of its values collide no more often than chance."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _near_sites(
    first: Reduced, others: Sequence[Reduced], target: np.ndarray, frac_coords: np.ndarray, tolerance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mappings (c,) ascending, and shifts (c, 3) of the second crystal after which each of its sites has one near by.

    Mapping m gives the first crystal frac_coords (m, n, 3) in a cell like that of others[target[m]].
    """
    anchors, second = _stack(others, "anchor"), _stack(others, "frac_coords")
    starts = np.flatnonzero(np.append(True, first.numbers[1:] != first.numbers[:-1]))
    blocks = [slice(*ends) for ends in zip(starts, np.append(starts[1:], len(first.numbers)), strict=True)]
    blocks.sort(key=lambda block: block.stop - block.start)
    mapping, shift = [], []
    for block in blocks:  # that holds the anchors
        held = np.flatnonzero((anchors[target] >= block.start) & (anchors[target] < block.stop))
        sites = frac_coords[held, block]  # (h, sites, 3)
        mapping.append(np.repeat(held, sites.shape[1]))
        shift.append((sites - second[target[held], anchors[target[held]]][:, None]).reshape(-1, 3))
    mapping, shift = np.concatenate(mapping), np.concatenate(shift)
    for block in blocks:
        chunk = max(1, BLOCK // (3 * (block.stop - block.start) ** 2))
        parts = [slice(i, i + chunk) for i in range(0, len(mapping), chunk)]
        kept = [
            _all_near(
                second[target[mapping[part]], block] + shift[part, None],
                frac_coords[mapping[part], block],
                tolerance[mapping[part]],
            )
            for part in parts
        ]
        passed = np.concatenate([np.zeros(0, bool), *kept])
        mapping, shift = mapping[passed], shift[passed]
    order = np.argsort(mapping, kind="stable")
    return mapping[order], shift[order]


def _all_near(second: np.ndarray, first: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """(q,) bool: each site of second (q, b, 3) lies within tolerance (q, 3) of some site of first (q, b, 3)."""
    gap = second[:, :, None] - first[:, None]
    gap -= np.round(gap)
    return (np.abs(gap) <= tolerance[:, None, None]).all(axis=-1).any(axis=-1).all(axis=-1)


def _stack(crystals: Sequence[Reduced], name: str) -> np.ndarray:
    return np.array([getattr(crystal, name) for crystal in crystals])


def _lattice_mappings(
    first: Reduced, others: Sequence[Reduced]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Integer matrices (m, 3, 3) that make the first lattice like another, of which (m,); lengths and angles (m, 3)."""
    lengths, angles = _stack(others, "lengths"), _stack(others, "angles")
    radius = lengths.max() * (1 + LTOL)
    reach = np.ceil(radius * np.linalg.norm(np.linalg.inv(first.lattice), axis=0)).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = steps @ first.lattice
    distance = np.linalg.norm(vectors, axis=1)
    inside = (distance > 0) & (distance < radius)
    steps, vectors, distance = steps[inside], vectors[inside], distance[inside]
    unit = vectors / distance[:, None]
    ratio = distance / lengths[:, :, None]  # (others, 3, vectors)
    close = (ratio < 1 + LTOL) & (ratio > 1 / (1 + LTOL))
    (of_a, a), (of_b, b), (of_c, c) = (np.nonzero(close[:, axis]) for axis in range(3))

    # Pairs of a and b with the right angle between them, then the third vector.
    left, right = _pairs_within(of_a, of_b, len(others))
    gamma = _angles(unit[a[left]], unit[b[right]])
    good = np.abs(gamma - angles[of_a[left], 2]) <= ANGLE_TOL
    left, right, gamma = left[good], right[good], gamma[good]
    pair, third = _pairs_within(of_a[left], of_c, len(others))
    target, a, b, c = of_a[left][pair], a[left[pair]], b[right[pair]], c[third]
    alpha = _angles(unit[b], unit[c])
    good = np.abs(alpha - angles[target, 0]) <= ANGLE_TOL
    target, a, b, c, alpha, gamma = (x[good] for x in (target, a, b, c, alpha, gamma[pair]))
    beta = _angles(unit[a], unit[c])
    matrices = np.stack([steps[a], steps[b], steps[c]], axis=1)
    volume = np.einsum("ij,ij->i", matrices[:, 0], np.cross(matrices[:, 1], matrices[:, 2]))
    good = (np.abs(beta - angles[target, 1]) <= ANGLE_TOL) & (np.abs(volume) == 1)
    found = np.stack([distance[a], distance[b], distance[c]], axis=1), np.stack([alpha, beta, gamma], axis=1)
    return target[good], matrices[good], found[0][good], found[1][good]


def _pairs_within(left: np.ndarray, right: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with left[i] == right[j]; both ascend and hold 0..n_groups - 1."""
    counts = np.bincount(right, minlength=n_groups)
    starts = np.cumsum(counts) - counts
    partners = counts[left]
    i = np.repeat(np.arange(len(left)), partners)
    first = np.cumsum(partners) - partners
    return i, np.arange(len(i)) - first[i] + starts[left][i]


def _angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(m,) angles, degrees, between unit vectors (m, 3)."""
    return np.degrees(np.arccos(np.clip(np.einsum("ij,ij->i", first, second), -1, 1)))


def _from_parameters(lengths: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(m, 3, 3) lattices of lengths (m, 3) and angles (m, 3), degrees; flat where no cell has such angles."""
    cosine, sine = np.cos(np.radians(angles)).T, np.sin(np.radians(angles)).T
    gamma_star = np.arccos(np.clip((cosine[0] * cosine[1] - cosine[2]) / (sine[0] * sine[1]), -1, 1))
    a, b, c = lengths.T
    lattices = np.zeros((len(lengths), 3, 3))
    lattices[:, 0, 0], lattices[:, 0, 2] = a * sine[1], a * cosine[1]
    lattices[:, 1, 0], lattices[:, 1, 1] = -b * sine[0] * np.cos(gamma_star), b * sine[0] * np.sin(gamma_star)
    lattices[:, 1, 2], lattices[:, 2, 2] = b * cosine[0], c
    return lattices


def _frac_tolerance(lattices: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(m, 3) how far apart in fractional coordinates two sites may lie: 2 stol (V / n)^(1/3) reciprocal lengths.

    size: (m,) (V / n)^(1/3).
    """
    return np.linalg.norm(np.linalg.inv(lattices), axis=1) * (2 * STOL * size)[:, None]


def _lll_reduced(lattices: np.ndarray) -> np.ndarray:
    """(m, 3, 3) as pymatgen's Lattice.get_lll_reduced_lattice; most mean lattices are so already."""
    from pymatgen.core import Lattice

    a, b, c = lattices.transpose(1, 0, 2)
    dot = partial(np.einsum, "ij,ij->i")
    along = dot(b, a) / dot(a, a)
    b_star = b - along[:, None] * a
    c_along_a, c_along_b = dot(c, a) / dot(a, a), dot(c, b_star) / dot(b_star, b_star)
    c_star = c - c_along_a[:, None] * a - c_along_b[:, None] * b_star
    reduced = (np.abs([along, c_along_a, c_along_b]) < 0.5).all(axis=0)
    reduced &= dot(b_star, b_star) > (0.75 - along**2) * dot(a, a)
    reduced &= dot(c_star, c_star) > (0.75 - c_along_b**2) * dot(b_star, b_star)
    result, rows = lattices.copy(), np.flatnonzero(~reduced)
    if not len(rows):
        return result
    # Symmetry makes many mean cells equal.
    cells, which = np.unique(np.round(lattices[rows], 9).reshape(-1, 9), axis=0, return_inverse=True)
    cells = cells.reshape(-1, 3, 3)
    steps = np.array([Lattice(cell).get_lll_reduced_lattice().matrix for cell in cells]) @ np.linalg.inv(cells)
    result[rows] = np.round(steps)[which.reshape(-1)] @ lattices[rows]
    return result
