"""Shuffled, padded training batches of labelled graphs: a pure function of the seed and the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gnome_core.graphs.batching import LADDER, Bucket, GraphBatch, batches
from gnome_core.graphs.featurize import GraphTable

HEADROOM = 1.15  # batches are cut at this times the mean size, so that few are cut short by one large crystal


class EpochPlan:
    """Batches of about `batch_size` training graphs, filled by edges, in an order of its own every epoch."""

    def __init__(
        self,
        graphs: GraphTable,
        train: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        cutoff: float,
        seed: Sequence[int],
        volume_jitter: float = 0.0,
    ):
        self._graphs, self._train, self._labels = graphs, train, labels
        self._cutoff, self._seed, self._jitter = cutoff, list(seed), volume_jitter
        edge_graph = np.repeat(np.arange(graphs.n_graphs), np.diff(graphs.edge_offsets))
        n_edges = np.bincount(edge_graph[graphs.lengths < cutoff], minlength=graphs.n_graphs)[train]
        n_nodes = graphs.n_nodes[train]
        # Rounded up, so that the shape outlives a few more crystals and a compiled step serves the next round too.
        self.bucket = Bucket(
            n_nodes=16 * math.ceil(HEADROOM * batch_size * n_nodes.mean() / 16 + 0.1),
            n_edges=128 * math.ceil(HEADROOM * batch_size * max(n_edges.mean(), 1) / 128),
            n_graphs=batch_size + 1,
        )
        self._ladder = (self.bucket, *(rung for rung in LADDER if rung.n_edges > self.bucket.n_edges))
        self.steps_per_epoch = len(list(self.epoch(0)))  # later epochs differ by a step or two

    def epoch(self, epoch: int) -> Iterator[tuple[GraphBatch, np.ndarray, np.ndarray]]:
        """Yield (batch, labels (g,), weights (g,)); weights are 0 on padding."""
        rng = np.random.default_rng([*self._seed, epoch])
        order = rng.permutation(self._train)
        volume_factors = rng.uniform(1 - self._jitter, 1 + self._jitter, len(order))
        for items, batch in batches(self._graphs, order, volume_factors, self._cutoff, self._ladder, self.bucket):
            labels, weights = np.zeros((2, len(batch.n_atoms)), np.float32)
            n_items = items.stop - items.start
            labels[:n_items] = self._labels[order[items]]
            weights[:n_items] = 1
            yield batch, labels, weights
