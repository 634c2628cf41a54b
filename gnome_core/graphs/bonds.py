"""Bond and angle graphs of crystals, packed into padded batches (for CHGNet, Deng et al. 2023, Methods)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from vesin import NeighborList as _VesinList

from gnome_core.crystals.crystal import Crystal, check_finite


@dataclass(frozen=True)
class BondGraph:
    """Undirected bonds within the atom cutoff, the short ones first, and the angles between short bonds.

    numbers: (n,) uint8. first, second: (b,) int32 atoms of each bond; vectors: (b, 3) float64 from first to second, Å.
    n_short: the first n_short bonds lie within the bond cutoff and span angles.
    bond1, bond2: (a,) int32 bonds of each unordered pair that meets at atom `center` (a,) int32; a bond to an atom's
    own image meets itself. sign: (a,) +1 or -1, turns vectors[bond1] . vectors[bond2] into the cosine seen from center.
    """

    numbers: np.ndarray
    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    n_short: int
    bond1: np.ndarray
    bond2: np.ndarray
    center: np.ndarray
    sign: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """(4,) atoms, short bonds, long bonds, angle pairs."""
        return np.array([len(self.numbers), self.n_short, len(self.first) - self.n_short, len(self.bond1)])


def bond_graph(crystal: Crystal, atom_cutoff: float = 6.0, bond_cutoff: float = 3.0) -> BondGraph:
    """Build the graph of one crystal; cutoffs in Å. Isolated atoms (no bond at all) are legal.

    Raises InvalidCrystal for a lattice or coordinates that are not finite.
    """
    check_finite(crystal)
    first, second, vectors, distance = _VesinList(cutoff=atom_cutoff, full_list=False, sorted=True).compute(
        points=crystal.positions, box=crystal.lattice, periodic=True, quantities="ijDd"
    )
    short = distance < bond_cutoff
    order = np.argsort(~short, kind="stable")
    first, second = first[order].astype(np.int32), second[order].astype(np.int32)
    n_short = int(short.sum())
    # Each short bond is seen from both its ends; every two ends at one atom make an angle.
    end_atom = np.concatenate([first[:n_short], second[:n_short]])
    by_atom = np.argsort(end_atom, kind="stable")
    degree = np.bincount(end_atom, minlength=crystal.n_sites)
    stop = np.repeat(np.cumsum(degree), degree)
    rank = np.arange(2 * n_short)
    n_later = stop - rank - 1
    left = np.repeat(rank, n_later)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(n_later) - n_later, n_later)
    end1, end2 = by_atom[left], by_atom[right]
    return BondGraph(
        numbers=crystal.numbers,
        first=first,
        second=second,
        vectors=vectors[order],
        n_short=n_short,
        bond1=(end1 % max(n_short, 1)).astype(np.int32),
        bond2=(end2 % max(n_short, 1)).astype(np.int32),
        center=end_atom[end1].astype(np.int32),
        sign=np.where((end1 < n_short) == (end2 < n_short), 1.0, -1.0).astype(np.float32),
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class BondBatch:
    """Several graphs in one padded set of arrays. Padding belongs to the last graph, atom and bond of each block.

    species: (N,) int32, atomic number - 1. graph: (N,) int32. n_atoms: (G,) float32, at least 1.
    first, second: (S + L,) int32; vectors: (S + L, 3) float32; bond1, bond2 (< S), center: (A,) int32;
    sign: (A,) float32. n_short: S, of which programs are compiled.
    """

    species: np.ndarray
    graph: np.ndarray
    n_atoms: np.ndarray
    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    bond1: np.ndarray
    bond2: np.ndarray
    center: np.ndarray
    sign: np.ndarray
    n_short: int = field(metadata={"static": True})


@dataclass(frozen=True)
class BatchShape:
    """Capacity of a padded batch: graphs, atoms, short and long bonds, angle pairs (one of each is padding)."""

    graphs: int
    atoms: int
    short: int
    long: int
    angles: int

    @property
    def capacity(self) -> np.ndarray:
        return np.array([self.atoms, self.short, self.long, self.angles]) - 1

    def holds(self, n_graphs: int, size: np.ndarray) -> bool:
        return n_graphs < self.graphs and bool((size <= self.capacity).all())

    def doubled(self) -> BatchShape:
        return BatchShape(*(2 * n for n in (self.graphs, self.atoms, self.short, self.long, self.angles)))


def pack(graphs: Sequence[BondGraph], shape: BatchShape, far: float) -> BondBatch:
    """Concatenate `graphs` and pad to `shape`. `far` (Å) is the length of padding bonds, beyond every cutoff."""
    species = np.zeros(shape.atoms, np.int32)
    graph = np.full(shape.atoms, shape.graphs - 1, np.int32)
    n_atoms = np.ones(shape.graphs, np.float32)
    n_bonds = shape.short + shape.long
    first = np.full(n_bonds, shape.atoms - 1, np.int32)
    second = first.copy()
    vectors = np.zeros((n_bonds, 3), np.float32)
    vectors[:, 0] = far
    bond1 = np.full(shape.angles, shape.short - 1, np.int32)
    bond2 = bond1.copy()
    center = np.full(shape.angles, shape.atoms - 1, np.int32)
    sign = np.zeros(shape.angles, np.float32)
    atom, short, long, angle = 0, 0, shape.short, 0
    for index, g in enumerate(graphs):
        n, n_short, n_long, n_angles = g.size
        species[atom : atom + n] = g.numbers.astype(np.int32) - 1
        graph[atom : atom + n] = index
        n_atoms[index] = n
        for into, start, part in (
            (slice(short, short + n_short), 0, n_short),
            (slice(long, long + n_long), n_short, n_long),
        ):
            first[into] = g.first[start : start + part] + atom
            second[into] = g.second[start : start + part] + atom
            vectors[into] = g.vectors[start : start + part]
        bond1[angle : angle + n_angles] = g.bond1 + short
        bond2[angle : angle + n_angles] = g.bond2 + short
        center[angle : angle + n_angles] = g.center + atom
        sign[angle : angle + n_angles] = g.sign
        atom, short, long, angle = atom + n, short + n_short, long + n_long, angle + n_angles
    return BondBatch(species, graph, n_atoms, first, second, vectors, bond1, bond2, center, sign, shape.short)


def fitting_shape(graphs: Sequence[BondGraph], ladder: Sequence[BatchShape]) -> BatchShape:
    """The first shape that holds the graphs; beyond the ladder its top, doubled as often as needed."""
    size = np.sum([g.size for g in graphs], axis=0)
    shape = next((s for s in ladder if s.holds(len(graphs), size)), ladder[-1])
    while not shape.holds(len(graphs), size):
        shape = shape.doubled()
    return shape
