"""Padded batches of graphs in a few fixed shapes, so that a network is traced at most once a shape.

An item is a graph at a volume factor. Items are packed greedily in the given order, by edges and nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jraph
import numpy as np

from gnome_core.graphs.featurize import CUTOFF, GraphTable


class Bucket(NamedTuple):
    """A batch shape. Its last node and its last graph are always padding."""

    n_nodes: int
    n_edges: int
    n_graphs: int


# The third rung is where packing stops; the higher ones exist for single crystals too large for it.
LADDER = (
    Bucket(64, 256, 16),
    Bucket(512, 2_048, 128),
    Bucket(2_048, 8_192, 512),
    Bucket(16_384, 65_536, 16),
    Bucket(65_536, 262_144, 16),
)
PACKING_BUCKET = LADDER[2]


class GraphTooLarge(ValueError):
    """A graph that no rung of the ladder holds; `index` is its place in the table."""

    def __init__(self, index: int, n_nodes: int, n_edges: int, largest: Bucket):
        super().__init__(
            f"graph {index} has {n_nodes} nodes and {n_edges} edges, the largest batch {largest}; "
            "use its primitive cell or a longer ladder"
        )
        self.index = index


class Nodes(NamedTuple):
    """numbers, multiplicities, graphs: (N,) element, atoms in the class, graph of the node (ascending).

    A node's graph follows from `n_node`; it is kept so that no evaluation has to work it out.
    """

    numbers: np.ndarray
    multiplicities: np.ndarray
    graphs: np.ndarray


class Edges(NamedTuple):
    """lengths: (E,) float32 Å; weights: (E,) float32 equal edges per atom, 0 for padding."""

    lengths: np.ndarray
    weights: np.ndarray


class GraphBatch(jraph.GraphsTuple):
    """Graphs of one padded batch, in the layout of `jraph.pad_with_graphs`: one graph of all padding, then empty ones.

    senders, receivers: (E,) nodes, receivers ascending. globals: (G,) float32 atoms in the cell, 1 for padding.
    n_node, n_edge: (G,). Written at once: filling jraph's lists and padding them takes half as long again.
    """

    nodes: Nodes
    edges: Edges
    senders: np.ndarray
    receivers: np.ndarray
    globals: np.ndarray


def fitting_bucket(n_nodes: int, n_edges: int, n_graphs: int, ladder: Sequence[Bucket] = LADDER) -> Bucket | None:
    """The first rung that holds the given totals beside its padding node and graph, or None."""
    for bucket in ladder:
        if n_nodes < bucket.n_nodes and n_edges <= bucket.n_edges and n_graphs < bucket.n_graphs:
            return bucket
    return None


def pack(n_nodes: np.ndarray, n_edges: np.ndarray, bucket: Bucket) -> list[tuple[int, int]]:
    """Greedy runs [start, stop) of consecutive items that fit `bucket`; an item that does not fit is a run of its own.

    n_nodes, n_edges: (i,) of each item.
    """
    node_ends, edge_ends = np.cumsum(n_nodes), np.cumsum(n_edges)
    runs, start, nodes, edges = [], 0, 0, 0
    while start < len(n_nodes):
        stop = min(
            np.searchsorted(node_ends, nodes + bucket.n_nodes - 1, side="right"),
            np.searchsorted(edge_ends, edges + bucket.n_edges, side="right"),
            start + bucket.n_graphs - 1,
        )
        stop = max(int(stop), start + 1)
        runs.append((start, stop))
        nodes, edges, start = node_ends[stop - 1], edge_ends[stop - 1], stop
    return runs


def batches(
    table: GraphTable,
    graphs: np.ndarray,
    volume_factors: np.ndarray,
    cutoff: float = CUTOFF,
    ladder: Sequence[Bucket] = LADDER,
    packing: Bucket = PACKING_BUCKET,
) -> Iterator[tuple[slice, GraphBatch]]:
    """Yield (slice of the items, batch); the first results of a batch belong to the items of the slice, in order.

    graphs: (i,) graph index of each item; volume_factors: (i,) its volume over the crystal's own.
    Raises GraphTooLarge.
    """
    stretch = np.cbrt(np.asarray(volume_factors, np.float64))
    n_edges = edges_inside(table, graphs, stretch, cutoff)
    n_nodes = table.n_nodes[graphs]
    for start, stop in pack(n_nodes, n_edges, packing):
        totals = int(n_nodes[start:stop].sum()), int(n_edges[start:stop].sum())
        bucket = fitting_bucket(*totals, stop - start, ladder)
        if bucket is None:
            raise GraphTooLarge(int(graphs[start]), *totals, ladder[-1])
        yield slice(start, stop), assemble(table, graphs[start:stop], stretch[start:stop], cutoff, bucket)


def edges_inside(table: GraphTable, graphs: np.ndarray, stretch: np.ndarray, cutoff: float) -> np.ndarray:
    """(i,) edges of each item that are shorter than the cutoff once its cell is stretched."""
    first, stop = table.edge_offsets[graphs], table.edge_offsets[graphs + 1]
    low, high = first.copy(), stop
    while (searching := low < high).any():  # one bisection for all items at once
        middle = (low + high) // 2
        inside = searching & (table.sorted_lengths[np.minimum(middle, len(table.lengths) - 1)] * stretch < cutoff)
        low = np.where(inside, middle + 1, low)
        high = np.where(searching & ~inside, middle, high)
    return low - first


def _ragged(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices start, start + 1, ... of every run, and the run each belongs to."""
    run = np.repeat(np.arange(len(starts)), counts)
    first = np.cumsum(counts) - counts
    return np.arange(len(run)) + (starts - first)[run], run


def assemble(table: GraphTable, graphs: np.ndarray, stretch: np.ndarray, cutoff: float, bucket: Bucket) -> GraphBatch:
    """One padded batch of items; stretch: (i,) linear factor of each item's cell."""
    n_nodes = table.n_nodes[graphs]
    nodes, node_item = _ragged(table.node_offsets[graphs], n_nodes)
    edges, edge_item = _ragged(table.edge_offsets[graphs], np.diff(table.edge_offsets)[graphs])
    lengths = table.lengths[edges] * stretch[edge_item]
    inside = lengths < cutoff
    edges, edge_item = edges[inside], edge_item[inside]
    first_node = (np.cumsum(n_nodes) - n_nodes)[edge_item]

    n_edges = np.bincount(edge_item, minlength=len(graphs))

    def padded(values: np.ndarray, size: int, dtype: type, fill: float) -> np.ndarray:
        out = np.full(size, fill, dtype)
        out[: len(values)] = values
        return out

    def filled_up(counts: np.ndarray, total: int) -> np.ndarray:
        out = padded(counts, bucket.n_graphs, np.int32, 0)
        out[len(counts)] = total - counts.sum()
        return out

    last_node = bucket.n_nodes - 1
    return GraphBatch(
        nodes=Nodes(
            numbers=padded(table.numbers[nodes], bucket.n_nodes, np.int32, 1),
            multiplicities=padded(table.multiplicities[nodes], bucket.n_nodes, np.float32, 0),
            graphs=padded(node_item, bucket.n_nodes, np.int32, len(graphs)),
        ),
        edges=Edges(
            lengths=padded(lengths[inside], bucket.n_edges, np.float32, cutoff),
            weights=padded(table.counts[edges], bucket.n_edges, np.float32, 0),
        ),
        senders=padded(table.senders[edges] + first_node, bucket.n_edges, np.int32, last_node),
        receivers=padded(table.receivers[edges] + first_node, bucket.n_edges, np.int32, last_node),
        globals=padded(table.n_atoms[graphs], bucket.n_graphs, np.float32, 1),
        n_node=filled_up(n_nodes, bucket.n_nodes),
        n_edge=filled_up(n_edges, bucket.n_edges),
    )
