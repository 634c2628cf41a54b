"""Which graphs go into one padded batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np


class Sized(Protocol):
    """A graph; `size` is the numbers of its parts, atoms first."""

    @property
    def size(self) -> np.ndarray: ...


class Shape(Protocol):
    """Capacity of a padded batch."""

    def holds(self, n_graphs: int, size: np.ndarray) -> bool: ...


OPEN = 16  # runs that still take graphs


def split(graphs: Sequence[Sized], shape: Shape) -> Iterator[list[int]]:
    """Runs of indices that `shape` holds, by first fit: a graph joins the earliest open run that has room for it. Each
    index is in one run; a graph too large for the shape is a run of its own."""
    runs: list[list[int]] = []
    sizes: list[np.ndarray] = []
    for i, g in enumerate(graphs):
        own = g.size  # graphs compute it
        place = next((k for k, size in enumerate(sizes) if shape.holds(len(runs[k]) + 1, size + own)), None)
        if place is not None:
            runs[place].append(i)
            sizes[place] = sizes[place] + own
            continue
        if len(runs) == OPEN:
            yield runs.pop(0)
            sizes.pop(0)
        runs.append([i])
        sizes.append(own)
    yield from runs
