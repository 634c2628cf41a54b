"""What a small potential can learn from a large one besides energies and forces: rows of its Hessian.

Amin et al., "Towards fast, specialized machine learning force fields: distilling foundation models via energy
Hessians", ICLR 2025, arXiv:2501.09009.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.potentials.potential import Potential

STEP = 0.01  # Å, of the central difference


def with_hessian_rows(frames: LabelledFrames, teacher: Potential, seed: int = 0, batch: int = 32) -> LabelledFrames:
    """The frames, relabelled by the teacher, with one Hessian row each: how all forces change as one atom moves.

    directions: (n, 3), 1 at a random atom and axis; responses: (n, 3) eV/Å^2, the derivative of the forces.
    """
    rng = np.random.default_rng(seed)
    directions = []
    for crystal in frames.crystals:
        direction = np.zeros((crystal.n_sites, 3))
        direction[rng.integers(crystal.n_sites), rng.integers(3)] = 1.0
        directions.append(direction)

    def evaluated(step: float) -> list:
        moved = [
            Crystal(c.lattice, c.frac_coords + step * d @ np.linalg.inv(c.lattice), c.numbers)
            for c, d in zip(frames.crystals, directions, strict=True)
        ]
        return [a for i in range(0, len(moved), batch) for a in teacher.evaluate(moved[i : i + batch])]

    here, ahead, behind = evaluated(0.0), evaluated(STEP), evaluated(-STEP)
    return replace(
        frames,
        energies=np.array([a.energy for a in here]),
        forces=[a.forces for a in here],
        stresses=np.array([a.stress for a in here]),
        scale=teacher.scale,
        directions=directions,
        responses=[(a.forces - b.forces) / (2 * STEP) for a, b in zip(ahead, behind, strict=True)],
    )
