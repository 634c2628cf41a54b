"""Springs between nearest neighbours: a potential whose phonons are known in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.neighbors import neighbor_list
from gnome_core.potentials.potential import Evaluation

THZ = 15.633302  # square root of eV/Å^2/u, as a frequency


@dataclass
class Springs:
    """stiffness: eV/Å^2 of every pair that is closer than 1.2 lengths (Å)."""

    length: float
    stiffness: float = 2.0
    scale: str = "springs"
    evaluated: int = 0

    def check(self, crystal: Crystal) -> None:
        """Judges every crystal."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        self.evaluated += len(crystals)
        return [self._answer(crystal) for crystal in crystals]

    def _answer(self, crystal: Crystal) -> Evaluation:
        first, second, images = neighbor_list(crystal, 1.2 * self.length)
        vectors = (crystal.frac_coords[second] + images - crystal.frac_coords[first]) @ crystal.lattice
        r = np.linalg.norm(vectors, axis=1)
        pulls = self.stiffness * ((r - self.length) / r)[:, None] * vectors
        forces = np.zeros((crystal.n_sites, 3))
        np.add.at(forces, first, pulls)
        energy = 0.25 * self.stiffness * ((r - self.length) ** 2).sum()
        return Evaluation(float(energy), forces, 0.5 * vectors.T @ pulls / crystal.volume, None)
