"""Several potentials as one: their mean, and how far they disagree about forces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.potential import Evaluation, Potential


class Committee:
    """The mean of potentials trained alike from different seeds (see `gnome_core.potentials.potential.Potential`).

    Raises ValueError for fewer than two members.
    """

    def __init__(self, members: Sequence[Potential]):
        if len(members) < 2:
            raise ValueError("a committee needs two members or more")
        self.members = list(members)
        self.scale = f"committee of {len(members)}: {members[0].scale}"

    def check(self, crystal: Crystal) -> None:
        """Raise CannotJudge for a crystal that a member cannot judge."""
        for member in self.members:
            member.check(crystal)

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        return [answer for answer, _ in self.evaluate_with_spread(crystals)]

    def evaluate_with_spread(self, crystals: Sequence[Crystal]) -> list[tuple[Evaluation, np.ndarray]]:
        """(mean answer, (n,) standard deviation of the force vector on each atom over members, eV/Å) a crystal."""
        answers = [member.evaluate(crystals) for member in self.members]
        found = []
        for of_one in zip(*answers, strict=True):
            forces = np.array([a.forces for a in of_one])
            spread = np.sqrt(forces.var(axis=0, ddof=1).sum(axis=1))
            energy = float(np.mean([a.energy for a in of_one]))
            stress = np.mean([a.stress for a in of_one], axis=0)
            found.append((Evaluation(energy, forces.mean(axis=0), stress, None), spread))
        return found
