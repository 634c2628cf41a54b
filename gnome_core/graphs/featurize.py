"""Graphs that networks read, of crystals and of compositions.

Structural graphs: the shortest weighted graph on which a message-passing network gives the crystal's energy. A network
that sees only elements and edge lengths gives equal states to atoms with equal surroundings. So a crystal's graph is
divided by its symmetry as the network sees it: colour refinement (Weisfeiler-Leman) on the periodic neighbour list
finds the coarsest equitable partition, atoms of one class become one node with a multiplicity, and equal messages
(same receiver, same sender class, same length) become one edge with a count. The energy is unchanged; Materials
Project cells of at most 16 atoms keep 4.0 nodes of 9.0 and 31 edges of 140.

Compositional graphs: one node an element, and an edge between each two of them, so that networks of both kinds of graph
share batches, ensembles and training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER
from gnome_core.crystals.crystal import Crystal
from gnome_core.errors import GnomeError
from gnome_core.graphs.neighbors import pair_lists

CUTOFF = 4.0  # Å, GNoME (Merchant et al., Nature 624, 80, 2023), Methods
MIN_VOLUME_FACTOR = 0.8  # smallest volume of the test-time augmentation; one list at this volume's need serves all
LENGTH_TOLERANCE = 3e-4  # Å; nearer lengths of one crystal count as equal (less than 1e-5 eV/atom)


class BadCrystal(GnomeError, ValueError):
    """A crystal that cannot be predicted. `index` is its place in the sequence that was given."""

    def __init__(self, index: int, reason: str):
        super().__init__(f"crystal {index}: {reason}; remove it or send it to the dead letters")
        self.index = index
        self.reason = reason


@dataclass(frozen=True, eq=False)
class GraphTable:
    """Graphs of many crystals, concatenated; graph g owns nodes node_offsets[g]:node_offsets[g + 1], edges likewise.

    numbers: (n,) int32 atomic numbers of the node classes; multiplicities: (n,) float32 atoms in a class.
    senders, receivers: (e,) int32, counted within the graph, receivers ascending; lengths: (e,) float64 Å at volume
    factor 1; counts: (e,) float32 equal edges received by one atom of the class.
    n_atoms: (g,) int32 atoms in the cell. node_offsets, edge_offsets: (g + 1,) int64.
    """

    numbers: np.ndarray
    multiplicities: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    n_atoms: np.ndarray
    node_offsets: np.ndarray
    edge_offsets: np.ndarray

    @property
    def n_graphs(self) -> int:
        return len(self.n_atoms)

    @property
    def n_nodes(self) -> np.ndarray:
        """(g,) nodes of each graph."""
        return np.diff(self.node_offsets)

    @cached_property
    def sorted_lengths(self) -> np.ndarray:
        """(e,) lengths, ascending within each graph."""
        edge_graph = np.repeat(np.arange(self.n_graphs), np.diff(self.edge_offsets))
        return self.lengths[np.lexsort((self.lengths, edge_graph))]

    def degrees(self, cutoff: float = CUTOFF) -> np.ndarray:
        """(g,) neighbours per atom within `cutoff` Å, every atom and image of the cell counted."""
        edge_graph = np.repeat(np.arange(self.n_graphs), np.diff(self.edge_offsets))
        multiplicity = self.multiplicities[self.node_offsets[edge_graph] + self.receivers]
        weights = self.counts * multiplicity * (self.lengths < cutoff)
        return np.bincount(edge_graph, weights, minlength=self.n_graphs) / self.n_atoms


def structural_graphs(
    crystals: Sequence[Crystal],
    cutoff: float = CUTOFF,
    min_volume_factor: float = MIN_VOLUME_FACTOR,
    tolerance: float = LENGTH_TOLERANCE,
) -> GraphTable:
    """Graphs that hold every edge shorter than `cutoff` Å at any volume factor >= `min_volume_factor`.

    tolerance: Å; a negative one keeps every atom and edge apart (the plain graph, for tests and comparisons).
    Raises BadCrystal for empty cells, NaN, elements outside 1..94 and cells without a volume.
    """
    _check(crystals)
    first, second, distances, n_pairs = [], [], [], []
    for one, other, distance in pair_lists(crystals, cutoff / min_volume_factor ** (1 / 3)):
        first.append(one)
        second.append(other)
        distances.append(distance)
        n_pairs.append(len(distance))
    n_atoms = np.array([c.n_sites for c in crystals], np.int32)
    numbers = _concatenate([c.numbers for c in crystals], np.int32)
    first_atom = np.concatenate([[0], np.cumsum(n_atoms)])
    shift = np.repeat(first_atom[:-1], n_pairs)
    one, other = _concatenate(first, np.int64) + shift, _concatenate(second, np.int64) + shift
    pair_lengths, atom_graph = _concatenate(distances, np.float64), np.repeat(np.arange(len(crystals)), n_atoms)
    pair_bins = np.arange(len(pair_lengths))
    if tolerance >= 0:
        pair_bins, pair_lengths = _equal_lengths(pair_lengths, atom_graph[one], tolerance)
    # Both directions of every pair, by receiver.
    receivers, senders = np.concatenate([one, other]), np.concatenate([other, one])
    order = np.argsort(receivers, kind="stable")
    plain = senders[order], receivers[order]
    lengths = np.tile(pair_lengths, 2)[order]
    if tolerance < 0:
        bins, classes = np.arange(len(lengths)), np.arange(len(numbers))
    else:
        bins = np.tile(pair_bins, 2)[order]
        classes = _equitable_classes(numbers, atom_graph, *plain, bins)
    return _quotient(numbers, n_atoms, *plain, lengths, bins, classes)


def compositional_graphs(compositions: np.ndarray) -> GraphTable:
    """Graphs of compositions (n, 95), amounts by atomic number: nodes are the elements, edges join all pairs of them.

    A node's multiplicity is its atoms in the reduced formula, an edge's count the atomic fraction of its sender (each
    element is its own neighbour too), so that what a node receives is a mean over the atoms. Lengths are 0.
    Raises BadCrystal for rows without atoms, with amounts that are not whole numbers, or elements outside 1..94.
    """
    compositions = np.asarray(compositions)
    bad = (compositions < 0) | (compositions != np.round(compositions))
    for index in np.flatnonzero(bad.any(axis=1) | ~(compositions[:, 1:] > 0).any(axis=1) | (compositions[:, 0] != 0)):
        raise BadCrystal(int(index), "a composition is a whole number of atoms of each of its elements")
    counts = compositions.astype(np.int64)
    counts //= np.maximum(np.gcd.reduce(counts, axis=1), 1)[:, None]
    row, numbers = np.nonzero(counts)
    n_atoms, n_nodes = counts.sum(axis=1), (counts > 0).sum(axis=1)
    amounts = counts[row, numbers]
    node_offsets = np.concatenate([[0], np.cumsum(n_nodes)])
    # Every node receives from each node of its graph.
    receiver = np.repeat(np.arange(len(row)), n_nodes[row])
    first_edge = np.cumsum(n_nodes[row]) - n_nodes[row]
    sender = np.arange(len(receiver)) - first_edge[receiver]
    start = node_offsets[row[receiver]]
    return GraphTable(
        numbers=numbers.astype(np.int32),
        multiplicities=amounts.astype(np.float32),
        senders=sender.astype(np.int32),
        receivers=(receiver - start).astype(np.int32),
        lengths=np.zeros(len(receiver)),
        counts=(amounts[start + sender] / n_atoms[row[receiver]]).astype(np.float32),
        n_atoms=n_atoms.astype(np.int32),
        node_offsets=node_offsets,
        edge_offsets=np.concatenate([[0], np.cumsum(n_nodes**2)]),
    )


def _check(crystals: Sequence[Crystal]) -> None:
    """Raise BadCrystal for the first crystal without a graph."""
    shapes = [(c.n_sites, c.frac_coords.shape) for c in crystals]
    bad = next((i for i, (n, shape) in enumerate(shapes) if n == 0 or shape != (n, 3)), None)
    if bad is not None:
        raise BadCrystal(bad, "no atoms, or as many coordinates as it has not")
    owner = np.repeat(np.arange(len(crystals)), [n for n, _ in shapes])
    lattices = np.array([c.lattice for c in crystals], np.float64).reshape(-1, 3, 3)
    fractions = np.concatenate([np.zeros((0, 3)), *(c.frac_coords for c in crystals)])
    numbers = _concatenate([c.numbers for c in crystals], np.int64)
    lost = np.array(~np.isfinite(lattices).all(axis=(1, 2)))
    lost[owner[~np.isfinite(fractions).all(axis=1)]] = True
    unknown = np.zeros(len(crystals), bool)
    unknown[owner[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)]] = True
    with np.errstate(invalid="ignore"):
        volumes = np.abs(np.linalg.det(lattices))
        flat = ~(volumes >= np.maximum(0.01 * np.linalg.norm(lattices, axis=2).prod(axis=1), 1.0))
    for index in np.flatnonzero(lost | unknown | flat)[:1].tolist():
        if lost[index]:
            raise BadCrystal(index, "lattice or coordinates are not finite")
        if unknown[index]:
            raise BadCrystal(index, f"atomic numbers must lie in 1..{MAX_ATOMIC_NUMBER}")
        raise BadCrystal(index, f"cell volume {volumes[index]:.3g} Å^3 is no cell")


def _concatenate(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)


def _starts(*sorted_keys: np.ndarray) -> np.ndarray:
    """(n,) bool: True where any of the sorted keys differs from the row before."""
    changed = np.ones(len(sorted_keys[0]), bool)
    changed[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in sorted_keys])
    return changed


def _equal_lengths(lengths: np.ndarray, graph: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Bin ids (e,) of equal lengths within a graph and the (e,) mean length of each one's bin."""
    if not len(lengths):
        return np.zeros(0, np.int64), lengths
    order = np.lexsort((lengths, graph))
    ordered, ordered_graph = lengths[order], graph[order]
    chain = _starts(ordered_graph)
    chain[1:] |= np.diff(ordered) > tolerance
    # In a disordered cell chains of near lengths grow long; cut them so that a bin never spans more than the tolerance.
    head = ordered[np.maximum.accumulate(np.where(chain, np.arange(len(ordered)), 0))]
    step = np.floor((ordered - head) / max(tolerance, 1e-12))
    ordered_bins = np.cumsum(_starts(np.cumsum(chain), step)) - 1
    means = np.bincount(ordered_bins, ordered) / np.bincount(ordered_bins)
    bins = np.empty(len(lengths), np.int64)
    bins[order] = ordered_bins
    return bins, means[bins]


def _mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser: uint64 -> well mixed uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _equitable_classes(
    numbers: np.ndarray, graph: np.ndarray, senders: np.ndarray, receivers: np.ndarray, bins: np.ndarray
) -> np.ndarray:
    """(n,) class of each atom: equal element, and equal multiset of (sender class, length) over its neighbours.

    receivers must ascend. Multisets are compared by sums of 64-bit hashes.
    """
    ends = np.searchsorted(receivers, np.arange(len(numbers) + 1))
    length_hash = _mix(bins.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    unique, classes = np.unique(graph * 128 + numbers, return_inverse=True)
    while True:
        classes = classes.astype(np.uint64)
        messages = _mix(_mix(classes)[senders] ^ length_hash)
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(messages, dtype=np.uint64)])
        received = running[ends[1:]] - running[ends[:-1]]  # modular arithmetic: exact
        n_before = len(unique)
        unique, classes = np.unique(_mix(received) ^ _mix(classes), return_inverse=True)
        if len(unique) <= n_before:
            return classes


def _quotient(
    numbers: np.ndarray,
    n_atoms: np.ndarray,
    senders: np.ndarray,
    receivers: np.ndarray,
    lengths: np.ndarray,
    bins: np.ndarray,
    classes: np.ndarray,
) -> GraphTable:
    """One node a class, in the order of each class's first atom; edges into that atom, equal ones counted once."""
    _, first, inverse, sizes = np.unique(classes, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    representative, rank = first[order], np.empty(len(first), np.int64)
    rank[order] = np.arange(len(first))
    node_of_atom = rank[inverse]
    first_atom = np.concatenate([[0], np.cumsum(n_atoms)])
    node_offsets = np.searchsorted(representative, first_atom)
    graph_of_node = np.repeat(np.arange(len(n_atoms)), np.diff(node_offsets))

    kept = np.zeros(len(numbers), bool)
    kept[representative] = True
    kept = kept[receivers]
    receivers, senders = node_of_atom[receivers[kept]], node_of_atom[senders[kept]]
    lengths, bins = lengths[kept], bins[kept]
    by_key = np.lexsort((bins, senders, receivers))
    starts = np.flatnonzero(_starts(receivers[by_key], senders[by_key], bins[by_key]))
    unique = by_key[starts]
    receivers, senders = receivers[unique], senders[unique]
    shift = node_offsets[graph_of_node[receivers]]
    return GraphTable(
        numbers=numbers[representative],
        multiplicities=sizes[order].astype(np.float32),
        senders=(senders - shift).astype(np.int32),
        receivers=(receivers - shift).astype(np.int32),
        lengths=lengths[unique],
        counts=np.diff(np.append(starts, len(by_key))).astype(np.float32),
        n_atoms=n_atoms,
        node_offsets=node_offsets,
        edge_offsets=np.searchsorted(receivers, node_offsets),
    )
