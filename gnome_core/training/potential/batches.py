"""Padded training batches of labelled frames: a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from gnome_core.graphs.batches import split
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.training.potential.networks import Network

HEADROOM = 1.1  # batches are cut at this times the mean size, so that few are cut short by one large crystal


class Targets(NamedTuple):
    """Labels of a padded batch. energy: (G,) eV/atom less the shifts; forces: (N, 3) eV/Å; virial: (G, 3, 3) eV/atom.

    level, numbers: (N,) int32, whose shifts an atom gets. direction, response: (N, 3), see LabelledFrames; zero without
    Hessian rows. Weights are 0 on padding and on what has
    no label, else 1: graph (G,), atom (N,), virial_known (G,).
    """

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    level: np.ndarray
    numbers: np.ndarray
    direction: np.ndarray
    response: np.ndarray
    graph: np.ndarray
    atom: np.ndarray
    virial_known: np.ndarray


class FrameGraphs:
    """Frames with their graphs built once, and batches of them.

    shifts: (levels, 256) eV by atomic number, subtracted from the labels in double precision.
    """

    def __init__(self, frames: LabelledFrames, network: Network, shifts: np.ndarray, batch_size: int):
        self.frames, self.network = frames, network
        self.graphs = [network.graph(c) for c in frames.crystals]
        self.n_atoms = np.array([c.n_sites for c in frames.crystals])
        self._set_shifts(shifts)
        volume = np.array([c.volume for c in frames.crystals])
        self.virial = frames.stresses * (volume / self.n_atoms)[:, None, None]
        mean = np.mean([g.size for g in self.graphs], axis=0) * batch_size * HEADROOM
        largest = np.max([g.size for g in self.graphs], axis=0)
        self.shape = network.shape(batch_size, np.maximum(np.minimum(mean, batch_size * largest), largest))

    def _set_shifts(self, shifts: np.ndarray) -> None:
        self.shifts = shifts
        levels = zip(self.frames.crystals, self.frames.level, strict=True)
        constant = np.array([shifts[level, c.numbers].sum() for c, level in levels])
        self.energy = (self.frames.energies - constant) / self.n_atoms

    def shifted(self, shifts: np.ndarray) -> FrameGraphs:
        """The same graphs under other shifts."""
        other = copy(self)
        other._set_shifts(shifts)
        return other

    def batches(self, order: Sequence[int], first: int = 0) -> Iterator[tuple[Any, Targets, list[int]]]:
        """Batches of the frames in this order from number `first` on, and which frames each holds."""
        for run in islice(split([self.graphs[i] for i in order], self.shape), first, None):
            rows = [order[i] for i in run]
            graphs = [self.graphs[i] for i in rows]
            shape = self.network.fitting(graphs, self.shape)
            batch = self.network.pack(graphs, shape, self.frames.level[rows].tolist())
            yield batch, self._targets(rows, shape), rows

    def _targets(self, rows: Sequence[int], shape: Any) -> Targets:
        n, atoms = len(rows), int(self.n_atoms[rows].sum())
        energy, graph, known = np.zeros((3, shape.graphs), np.float32)
        forces, atom = np.zeros((shape.atoms, 3), np.float32), np.zeros(shape.atoms, np.float32)
        virial = np.zeros((shape.graphs, 3, 3), np.float32)
        energy[:n], graph[:n] = self.energy[rows], 1
        forces[:atoms], atom[:atoms] = np.concatenate([self.frames.forces[i] for i in rows]), 1
        level, numbers = np.zeros((2, shape.atoms), np.int32)
        level[:atoms] = np.repeat(self.frames.level[rows], self.n_atoms[rows])
        numbers[:atoms] = np.concatenate([self.frames.crystals[i].numbers for i in rows])
        direction, response = np.zeros((2, shape.atoms, 3), np.float32)
        if self.frames.directions:
            direction[:atoms] = np.concatenate([self.frames.directions[i] for i in rows])
            response[:atoms] = np.concatenate([self.frames.responses[i] for i in rows])
        known[:n] = np.isfinite(self.virial[rows]).all((1, 2))
        virial[:n] = np.nan_to_num(self.virial[rows])
        return Targets(energy, forces, virial, level, numbers, direction, response, graph, atom, known)


def epoch_order(n: int, first: np.ndarray, share: float, batch_size: int, seed: Sequence[int]) -> list[int]:
    """An order of n frames for one epoch. Of every batch_size in a row, `share` are first frames.

    first: (m,) indices of first frames. With share 0 every frame comes once.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    n_first = round(share * batch_size) if len(first) else 0
    if n_first:
        # First frames are drawn in turn from permutations of them, so that each is seen about as often.
        places = np.flatnonzero(np.arange(n) % batch_size < n_first)
        turns = [rng.permutation(first) for _ in range(-(-len(places) // len(first)))]
        order[places] = np.concatenate(turns)[: len(places)]
    return order.tolist()
