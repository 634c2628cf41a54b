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


def split(graphs: Sequence[Sized], shape: Shape) -> Iterator[list[int]]:
    """Consecutive runs of indices, each as long as `shape` holds; a graph too large for it is a run of its own."""
    run: list[int] = []
    size = np.zeros(1, int)
    for i, g in enumerate(graphs):
        if run and not shape.holds(len(run) + 1, size + g.size):
            yield run
            run, size = [], np.zeros(1, int)
        run.append(i)
        size = size + g.size
    if run:
        yield run
