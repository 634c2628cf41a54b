"""L-BFGS without a line search: a step costs one evaluation of the forces.

Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.4.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

MEMORY = 20  # steps whose change of forces is remembered
STIFFNESS = 25.0  # eV/Å^2 of every coordinate before anything is known of it: that of an atom among its neighbours
# Å that a row moves at most: at first, ever, and after however many steps uphill.
FIRST, LONGEST, SHORTEST = 0.2, 0.3, 0.03
LONGER, SHORTER = 1.5, 0.5  # factors after a step downhill, and after one uphill


class _Change(NamedTuple):
    """A move, the fall of the forces along it, and the inverse of their product."""

    move: np.ndarray
    fall: np.ndarray
    inverse: float


@dataclass
class LBFGS:
    """One system's memory. Rows of three coordinates, Å; energies eV; forces eV/Å."""

    changes: deque[_Change] = field(default_factory=lambda: deque(maxlen=MEMORY))
    last: tuple[np.ndarray, np.ndarray, float] | None = None  # the move that led here; forces and energy before it
    longest: float = FIRST

    def move(self, energy: float, forces: np.ndarray) -> np.ndarray:
        """(m, 3) moves, Å, at an energy and forces (m, 3) which are those after the move that was given last."""
        self._learn(energy, forces.ravel())
        move = self._downhill(forces.ravel())
        if move @ forces.ravel() <= 0:  # rounding has spoilt the memory
            self.changes.clear()
            move = forces.ravel() / STIFFNESS
        rows = move.reshape(forces.shape)
        rows = rows * min(1.0, self.longest / np.linalg.norm(rows, axis=1).max())
        self.last = rows.ravel(), forces.ravel(), energy
        return rows

    def _learn(self, energy: float, forces: np.ndarray) -> None:
        if self.last is None:
            return
        move, before, higher = self.last
        self.longest *= SHORTER if energy > higher else LONGER
        self.longest = min(max(self.longest, SHORTEST), LONGEST)
        fall = before - forces
        product = float(move @ fall)
        if product > 1e-10 * np.linalg.norm(move) * np.linalg.norm(fall):
            self.changes.append(_Change(move, fall, 1 / product))
        else:  # the energy curves down here: what was learnt does not help
            self.changes.clear()

    def _downhill(self, forces: np.ndarray) -> np.ndarray:
        """The product of the inverse Hessian, as far as it is known, and the forces."""
        q, shares = forces, []
        for change in reversed(self.changes):
            share = change.inverse * (change.move @ q)
            shares.append(share)
            q = q - share * change.fall
        q = q / STIFFNESS
        for change, share in zip(self.changes, reversed(shares), strict=True):
            q = q + change.move * (share - change.inverse * (change.fall @ q))
        return q
