"""Relaxation of many crystals at once: L-BFGS on positions and cell, each crystal on its own clock.

The cell moves by strains taken relative to the current cell (Tadmor et al., Phys. Rev. B 59, 235 (1999)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import expm

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.constraints import Constraints
from gnome_core.potentials.lbfgs import LBFGS
from gnome_core.potentials.potential import CannotJudge

if TYPE_CHECKING:  # what reads results must not load jax
    from gnome_core.potentials.potential import Evaluation, Potential


@dataclass(frozen=True)
class Frame:
    """One evaluated step. energy: eV per cell; forces: (n, 3) eV/Å; stress: (3, 3) eV/Å^3, tension positive."""

    step: int
    crystal: Crystal
    energy: float
    forces: np.ndarray
    stress: np.ndarray


@dataclass(frozen=True)
class Relaxation:
    """A converged relaxation; the last frame is the relaxed crystal. magmoms: (n,) Bohr magnetons,
    None from a potential without any."""

    frames: list[Frame]
    magmoms: np.ndarray | None

    @property
    def crystal(self) -> Crystal:
        return self.frames[-1].crystal

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.frames[-1].energy / self.crystal.n_sites


@dataclass(frozen=True)
class RelaxationFailure:
    """Why a crystal left the batch: not_converged, not_finite, exploded, collapsed, or what the potential cannot judge
    (unknown_element, isolated_atom). Frames up to then are kept."""

    reason: str
    message: str
    frames: list[Frame]


OPTIMIZER = "lbfgs/1"  # part of the protocols of evaluators: another one ends elsewhere in flat or rugged minima

# Å: a strain e of n atoms counts as a move of e * CELL * sqrt(n): a cell of 15 Å^3 an atom and 100 GPa is then as stiff
# as its atoms.
CELL = 0.6


@dataclass
class _Walker:
    """One crystal on its way down."""

    crystal: Crystal
    constraints: Constraints
    frames: list[Frame] = field(default_factory=list)
    optimizer: LBFGS = field(default_factory=LBFGS)

    def forces(self, evaluation: Evaluation) -> np.ndarray:
        """(n + 3, 3) eV/Å: those on the atoms, then the virial's share of an atom."""
        forces, stress = self.constraints.apply(self.crystal, evaluation.forces, evaluation.stress)
        return np.concatenate([forces, -stress * self.crystal.volume / self.crystal.n_sites])

    def advance(self, forces: np.ndarray) -> None:
        """One step under what `forces` gave of the newest frame."""
        n = self.crystal.n_sites
        length = CELL * np.sqrt(n)
        move = self.optimizer.move(self.frames[-1].energy, np.concatenate([forces[:n], forces[n:] * n / length]))
        strain = move[n:] / length
        lattice = self.crystal.lattice @ expm((strain + strain.T) / 2)
        frac = self.crystal.frac_coords + move[:n] @ np.linalg.inv(self.crystal.lattice)
        self.crystal = Crystal(lattice, frac, self.crystal.numbers)


def relax(
    crystals: Sequence[Crystal],
    potential: Potential,
    config: RelaxConfig | None = None,
    progress: Callable[[int], None] | None = None,
    constraints: Sequence[Constraints] | None = None,
) -> list[Relaxation | RelaxationFailure]:
    """Relax every crystal; the answers come in the order given. A failing crystal leaves, the others go on.

    One that the potential cannot judge is not begun; one that has come apart where forces vanish has not converged.
    progress is called with the number of crystals that finished in each step. constraints: one a crystal; else all
    move freely at no pressure.
    """
    config = config or RelaxConfig()
    constraints = constraints or [Constraints()] * len(crystals)
    walkers = [_Walker(crystal, own) for crystal, own in zip(crystals, constraints, strict=True)]
    results: list[Relaxation | RelaxationFailure | None] = [refusal(potential, crystal, []) for crystal in crystals]
    active = [i for i, result in enumerate(results) if result is None]
    if progress and len(active) < len(crystals):
        progress(len(crystals) - len(active))
    while active:
        evaluations = potential.evaluate([walkers[i].crystal for i in active])
        for i, evaluation in zip(active, evaluations, strict=True):
            results[i] = _step(walkers[i], evaluation, config, potential)
        finished = sum(results[i] is not None for i in active)
        active = [i for i in active if results[i] is None]
        if progress and finished:
            progress(finished)
    return [r for r in results if r is not None]


def refusal(potential: Potential, crystal: Crystal, frames: list[Frame]) -> RelaxationFailure | None:
    """Why the potential cannot judge the crystal that these frames led to, or None."""
    try:
        potential.check(crystal)
    except CannotJudge as error:
        return RelaxationFailure(error.reason, str(error), frames)
    return None


def _step(
    walker: _Walker, evaluation: Evaluation, config: RelaxConfig, potential: Potential
) -> Relaxation | RelaxationFailure | None:
    """Record the evaluation and move on, or say how this crystal ended."""
    forces = walker.forces(evaluation)
    if not (np.isfinite(evaluation.energy) and np.isfinite(forces).all()):
        return RelaxationFailure(
            "not_finite", f"energy or forces are not finite at step {len(walker.frames)}", walker.frames
        )
    walker.frames.append(
        Frame(len(walker.frames), walker.crystal, evaluation.energy, evaluation.forces, evaluation.stress)
    )
    largest = float(np.linalg.norm(forces, axis=1).max())
    if largest <= config.fmax:
        return refusal(potential, walker.crystal, walker.frames) or Relaxation(walker.frames, evaluation.magmoms)
    if len(walker.frames) >= config.max_steps:
        return RelaxationFailure(
            "not_converged", f"largest force {largest:.3f} eV/Å after {config.max_steps} steps", walker.frames
        )
    walker.advance(forces)
    ratio = walker.crystal.volume / walker.frames[0].crystal.volume
    if not ratio < config.max_volume_ratio:
        return RelaxationFailure("exploded", f"the volume grew {ratio:.1f}-fold", walker.frames)
    if ratio < 1 / config.max_volume_ratio:
        return RelaxationFailure("collapsed", f"the volume shrank to {ratio:.2f} of its start", walker.frames)
    return None
