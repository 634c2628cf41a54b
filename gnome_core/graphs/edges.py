"""Edges of crystals in receiver blocks, packed into padded batches (for NequIP).

Messages are summed over the edges of a receiver. Edges come in blocks of `BLOCK` with one receiver, so that the sum
within a block is part of a matrix product; an atom has as many blocks as it needs, the last one filled with padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Union

import jax
import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.neighbors import neighbor_list

if TYPE_CHECKING:
    import jax

Array: TypeAlias = Union[np.ndarray, "jax.Array"]  # batches are built with numpy and traced by jax
BLOCK = 8


@dataclass(frozen=True, eq=False)
class EdgeGraph:
    """One crystal. numbers: (n,) uint8; receivers: (b,) int32, ascending; senders: (b, BLOCK) int32; vectors:
    (b, BLOCK, 3) float64 Å from sender to receiver; padding edges lead from the receiver to itself, beyond the cutoff.
    """

    numbers: np.ndarray
    receivers: np.ndarray
    senders: np.ndarray
    vectors: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """(2,) atoms, blocks."""
        return np.array([len(self.numbers), len(self.receivers)])


def edge_graph(crystal: Crystal, cutoff: float) -> EdgeGraph:
    """Every periodic image within `cutoff` (Å) is an edge. Atoms without neighbours are legal."""
    first, second, images = neighbor_list(crystal, cutoff)
    vectors = (crystal.frac_coords[first] - crystal.frac_coords[second] - images) @ crystal.lattice
    degree = np.bincount(first, minlength=crystal.n_sites)  # the list holds both directions, sorted by its first atom
    n_blocks = -(-degree // BLOCK)
    receivers = np.repeat(np.arange(crystal.n_sites, dtype=np.int32), n_blocks)
    # An edge's slot: its atom's first block, then its rank among the atom's edges.
    rank = np.arange(len(first)) - np.repeat(np.cumsum(degree) - degree, degree)
    slot = np.repeat(np.cumsum(n_blocks) - n_blocks, degree) * BLOCK + rank
    senders = np.repeat(receivers, BLOCK)
    padded = np.zeros((len(senders), 3))
    padded[:, 0] = 2 * cutoff
    senders[slot], padded[slot] = second, vectors
    return EdgeGraph(crystal.numbers, receivers, senders.reshape(-1, BLOCK), padded.reshape(-1, BLOCK, 3))


class EdgeShape(NamedTuple):
    """Capacity of a padded batch. Its last graph and its last atom are padding."""

    graphs: int
    atoms: int
    blocks: int

    def holds(self, n_graphs: int, size: np.ndarray) -> bool:
        return n_graphs < self.graphs and size[0] < self.atoms and size[1] <= self.blocks


class EdgeBatch(NamedTuple):
    """Several graphs in one padded set of arrays.

    numbers: (N,) int32, 1 for padding. graph: (N,) int32. level: (N,) int32, level of theory that is asked for.
    n_atoms: (G,) float32, 1 for padding. receivers: (B,) int32, ascending; senders: (B, BLOCK) int32; vectors:
    (B, BLOCK, 3) Å.
    """

    numbers: Array
    graph: Array
    level: Array
    n_atoms: Array
    receivers: Array
    senders: Array
    vectors: Array


def pack(
    graphs: Sequence[EdgeGraph], shape: EdgeShape, dtype: type = np.float32, levels: Sequence[int] | None = None
) -> EdgeBatch:
    """Concatenate `graphs` and pad to `shape`. levels: one a graph, else 0."""
    level = np.zeros(shape.atoms, np.int32)
    numbers = np.ones(shape.atoms, np.int32)
    graph = np.full(shape.atoms, shape.graphs - 1, np.int32)
    n_atoms = np.ones(shape.graphs, np.float32)
    receivers = np.full(shape.blocks, shape.atoms - 1, np.int32)
    senders = np.full((shape.blocks, BLOCK), shape.atoms - 1, np.int32)
    vectors = np.zeros((shape.blocks, BLOCK, 3), dtype)
    vectors[..., 0] = 1e3  # Å, beyond every cutoff
    atom = block = 0
    for index, g in enumerate(graphs):
        n, b = g.size
        numbers[atom : atom + n] = g.numbers
        graph[atom : atom + n] = index
        n_atoms[index] = n
        level[atom : atom + n] = levels[index] if levels is not None else 0
        receivers[block : block + b] = g.receivers + atom
        senders[block : block + b] = g.senders + atom
        vectors[block : block + b] = g.vectors
        atom, block = atom + n, block + b
    return EdgeBatch(numbers, graph, level, n_atoms, receivers, senders, vectors)


def fitting_shape(graphs: Sequence[EdgeGraph], ladder: Sequence[EdgeShape]) -> EdgeShape:
    """The first shape that holds the graphs; beyond the ladder its top, what is too small of it half as large again as
    often as needed."""
    size = np.sum([g.size for g in graphs], axis=0)
    shape = next((s for s in ladder if s.holds(len(graphs), size)), ladder[-1])
    needed = (len(graphs) + 1, size[0] + 1, size[1])  # the last graph and the last atom are padding
    while not shape.holds(len(graphs), size):
        shape = EdgeShape(*(has * 3 // 2 if has < n else has for has, n in zip(shape, needed, strict=True)))
    return shape
