"""Padded training batches of labelled frames: a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import islice
from typing import Any, NamedTuple

import jax
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
        self.frames, self.network, self.batch_size = frames, network, batch_size
        self.graphs = [network.graph(c) for c in frames.crystals]
        self.n_atoms = np.array([c.n_sites for c in frames.crystals])
        self._set_shifts(shifts)
        volume = np.array([c.volume for c in frames.crystals])
        self.virial = frames.stresses * (volume / self.n_atoms)[:, None, None]
        mean = np.mean([g.size for g in self.graphs], axis=0) * batch_size * HEADROOM
        largest = np.max([g.size for g in self.graphs], axis=0)
        self.size = np.maximum(np.minimum(mean, batch_size * largest), largest)
        self.shape = network.shape(batch_size, self.size)

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
            shape = self.network.fitting([self.graphs[i] for i in rows], self.shape)
            yield *self._packed(rows, shape), rows

    def steps(self, order: Sequence[int], first: int, n_parts: int) -> Iterator[tuple[Any, Targets, int]]:
        """`batches`, each divided into parts of like size along a first axis, and how many frames each holds."""
        if n_parts == 1:
            for batch, targets, rows in self.batches(order, first):
                yield *jax.tree.map(lambda array: array[None], (batch, targets)), len(rows)
            return
        sizes = np.array([g.size for g in self.graphs])
        # Parts are of unlike size by a graph at most, which may be the largest there is.
        usual = self.network.shape(self.batch_size, self.size / n_parts + sizes.max(0))
        for run in islice(split([self.graphs[i] for i in order], self.shape), first, None):
            rows = np.asarray(order)[run]
            parts, shape = _divided(rows, sizes[rows, 1], n_parts), usual
            for part in parts:
                if part:
                    shape = self.network.fitting([self.graphs[i] for i in part], shape)
            packed = [self._packed(part, shape) for part in parts]
            yield *jax.tree.map(lambda *arrays: np.stack(arrays), *packed), len(run)

    def _packed(self, rows: Sequence[int], shape: Any) -> tuple[Any, Targets]:
        levels = [int(self.frames.level[i]) for i in rows]
        return self.network.pack([self.graphs[i] for i in rows], shape, levels), self._targets(rows, shape)

    def _targets(self, rows: Sequence[int], shape: Any) -> Targets:
        chosen = np.asarray(rows, int)
        n, atoms = len(chosen), int(self.n_atoms[chosen].sum())
        energy, graph, known = np.zeros((3, shape.graphs), np.float32)
        forces, atom = np.zeros((shape.atoms, 3), np.float32), np.zeros(shape.atoms, np.float32)
        virial = np.zeros((shape.graphs, 3, 3), np.float32)
        energy[:n], graph[:n] = self.energy[chosen], 1
        forces[:atoms], atom[:atoms] = _joined(self.frames.forces, rows), 1
        level, numbers = np.zeros((2, shape.atoms), np.int32)
        level[:atoms] = np.repeat(self.frames.level[chosen], self.n_atoms[chosen])
        numbers[:atoms] = [z for i in rows for z in self.frames.crystals[i].numbers]
        direction, response = np.zeros((2, shape.atoms, 3), np.float32)
        if self.frames.directions:
            direction[:atoms] = _joined(self.frames.directions, rows)
            response[:atoms] = _joined(self.frames.responses, rows)
        known[:n] = np.isfinite(self.virial[chosen]).all((1, 2))
        virial[:n] = np.nan_to_num(self.virial[chosen])
        return Targets(energy, forces, virial, level, numbers, direction, response, graph, atom, known)


def _joined(arrays: Sequence[np.ndarray], rows: Sequence[int]) -> np.ndarray:
    """(atoms, 3) of frames."""
    return np.concatenate([np.zeros((0, 3)), *(arrays[i] for i in rows)])


def _divided(rows: np.ndarray, sizes: np.ndarray, n_parts: int) -> list[list[int]]:
    """The rows in parts, the largest first, each to the part that has least."""
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    loads = np.zeros(n_parts)
    for place in np.argsort(-sizes, kind="stable").tolist():
        least = int(loads.argmin())
        parts[least].append(int(rows[place]))
        loads[least] += sizes[place]
    return parts


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
