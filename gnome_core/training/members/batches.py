"""Shuffled, padded training batches of labelled graphs: a pure function of the seed and the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from gnome_core.graphs.batching import LADDER, Bucket, GraphBatch, assemble, edges_inside, fitting_bucket, pack
from gnome_core.graphs.featurize import GraphTable

HEADROOM = 1.15  # batches are cut at this times the mean size, so that few are cut short by one large crystal

T = TypeVar("T")


class Step(NamedTuple):
    """What one optimiser step of m members reads, each from d parts (a pytree of arrays).

    graphs: arrays with axes (m, d) before their own; labels, weights: (m, d, g), weights 0 on padding. progress: (m,)
    float32 share of the training that is over. active: (m,) bool, False for a member whose epoch has no batch left.
    """

    graphs: GraphBatch
    labels: np.ndarray
    weights: np.ndarray
    progress: np.ndarray
    active: np.ndarray


class _Part(NamedTuple):
    """Graphs of one batch at their jittered volumes, and the shape that holds them."""

    graphs: np.ndarray
    stretch: np.ndarray
    bucket: Bucket


class Replay(NamedTuple):
    """Graphs of which every epoch draws `number` anew, while all others take part. of: (n,) bool, of all graphs."""

    of: np.ndarray
    number: int


class EpochPlan:
    """The steps of every epoch for several members, each of which sees the training graphs in an order of its own.

    A step takes about `batch_size` graphs a member, filled by edges, in `n_parts` batches of equal shape. Parts are
    what local devices share.
    """

    def __init__(
        self,
        graphs: GraphTable,
        train: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        epochs: int,
        cutoff: float,
        seeds: Sequence[Sequence[int]],
        volume_jitter: float = 0.0,
        n_parts: int = 1,
        replay: Replay | None = None,
    ):
        """train: rows of the graphs that train; labels: (n,) of all graphs; seeds: one a member; replay: None = all."""
        self._graphs, self._train, self._labels = graphs, train, labels
        old = np.zeros(len(train), bool) if replay is None else replay.of[train]
        self._always, self._old = train[~old], train[old]
        self._drawn = len(self._old) if replay is None else min(replay.number, len(self._old))
        self._cutoff, self._epochs, self._jitter, self._n_parts = cutoff, epochs, volume_jitter, n_parts
        self._seeds = [list(seed) for seed in seeds]
        n_edges = edges_inside(graphs, train, np.ones(len(train)), cutoff)
        n_nodes, size = graphs.n_nodes[train], math.ceil(batch_size / n_parts)
        # Rounded up, so that the shape outlives a few more crystals and a compiled step serves the next round too.
        self.bucket = Bucket(
            n_nodes=16 * math.ceil(HEADROOM * size * n_nodes.mean() / 16 + 0.1),
            n_edges=128 * math.ceil(HEADROOM * size * max(n_edges.mean(), 1) / 128),
            n_graphs=size + 1,
        )
        self._ladder = (self.bucket, *(rung for rung in LADDER if rung.n_edges > self.bucket.n_edges))
        # Later epochs differ by a step or two: learning rates need no more.
        self._lengths = [len(self._parts(0, seed)) for seed in self._seeds]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Step]:
        """The steps of an epoch from `first_step` on."""
        members = [self._parts(epoch, seed) for seed in self._seeds]
        for index, parts in enumerate(zip_longest(*members)):
            if index >= first_step:
                yield self._step(epoch, index, parts)

    def _parts(self, epoch: int, seed: list[int]) -> list[list[_Part]]:
        """One member's steps of an epoch."""
        rng = np.random.default_rng([*seed, epoch])
        order = rng.permutation(self._train) if self._drawn == len(self._old) else self._draw(rng)
        stretch = np.cbrt(rng.uniform(1 - self._jitter, 1 + self._jitter, len(order)))
        n_nodes, n_edges = self._graphs.n_nodes[order], edges_inside(self._graphs, order, stretch, self._cutoff)
        parts = []
        for start, stop in pack(n_nodes, n_edges, self.bucket):
            totals = int(n_nodes[start:stop].sum()), int(n_edges[start:stop].sum())
            bucket = fitting_bucket(*totals, stop - start, self._ladder)
            if bucket is None:
                raise ValueError(
                    f"graph {order[start]} has {totals[0]} nodes and {totals[1]} edges, too many for a batch; "
                    "leave it out or give its primitive cell"
                )
            parts.append(_Part(order[start:stop], stretch[start:stop], bucket))
        return [parts[i : i + self._n_parts] for i in range(0, len(parts), self._n_parts)]

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(np.append(self._always, rng.choice(self._old, self._drawn, replace=False)))

    def _step(self, epoch: int, index: int, members: Sequence[list[_Part] | None]) -> Step:
        nothing = _Part(self._train[:0], np.zeros(0), self.bucket)
        filled = [[*(parts or []), *[nothing] * (self._n_parts - len(parts or []))] for parts in members]
        bucket = max((part.bucket for parts in filled for part in parts), key=lambda bucket: bucket.n_edges)
        batches, labels, weights = [], [], []
        for part in (part for parts in filled for part in parts):
            batches.append(assemble(self._graphs, part.graphs, part.stretch, self._cutoff, bucket))
            values, present = np.zeros((2, bucket.n_graphs), np.float32)
            values[: len(part.graphs)] = self._labels[part.graphs]
            present[: len(part.graphs)] = 1
            labels.append(values)
            weights.append(present)

        def stacked(*arrays: np.ndarray) -> np.ndarray:
            return np.stack(arrays).reshape(len(members), self._n_parts, *arrays[0].shape)

        done = [(epoch + min(index / length, 1.0)) / self._epochs for length in self._lengths]
        return Step(
            graphs=jax.tree.map(stacked, *batches),
            labels=stacked(*labels),
            weights=stacked(*weights),
            progress=np.array(done, np.float32),
            active=np.array([parts is not None for parts in members]),
        )


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(lambda: next(items, None))
        while (item := coming.result()) is not None:
            coming = thread.submit(lambda: next(items, None))
            yield item
