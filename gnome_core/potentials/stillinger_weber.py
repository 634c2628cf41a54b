"""The Stillinger-Weber potential of silicon: a fast and rough teacher for synthetic pre-training.

Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), doi:10.1103/PhysRevB.31.5262.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.bonds import BatchShape, BondBatch, bond_graph, pack
from gnome_core.potentials.potential import Evaluation, UnknownElement

EPSILON = 2.1683  # eV
SIGMA = 2.0951  # Å
A, B, REACH = 7.049556277, 0.6022245584, 1.8  # pair terms: powers 4 and 0
LAMBDA, GAMMA = 21.0, 1.20
SILICON = 14


class StillingerWeber:
    """See `gnome_core.potentials.potential.Potential`. Raises UnknownElement for anything but silicon."""

    scale = "stillinger-weber-si"
    cutoff = REACH * SIGMA  # Å

    def check(self, crystal: Crystal) -> None:
        """Raise UnknownElement unless the crystal is silicon. Atoms out of each other's reach have no energy."""
        if (crystal.numbers != SILICON).any():
            raise UnknownElement("the Stillinger-Weber potential knows silicon only; use another teacher")

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        answers = []
        for crystal in crystals:
            self.check(crystal)
            graph = bond_graph(crystal, self.cutoff, self.cutoff)
            n, bonds, _, angles = graph.size
            shape = BatchShape(2, n + 1, _rounded(bonds), 1, _rounded(angles))
            energy, forces, virial = map(np.asarray, _evaluate(pack([graph], shape, far=2 * self.cutoff)))
            answers.append(Evaluation(float(energy), forces[:n].astype(float), virial / crystal.volume, None))
        return answers


def _rounded(n: int) -> int:
    """A power of two above n: few shapes to compile."""
    return 1 << (int(n) + 1).bit_length()


def _energy(vectors: jax.Array, batch: BondBatch) -> jax.Array:
    vectors = vectors[: batch.n_short]
    r = jnp.sqrt(jnp.square(vectors).sum(-1)) / SIGMA
    inside = r < REACH
    gap = jnp.where(inside, r - REACH, -1.0)
    pair = jnp.where(inside, A * (B * r**-4 - 1) * jnp.exp(1 / gap), 0.0)
    reach = jnp.where(inside, jnp.exp(GAMMA / gap), 0.0)
    unit = vectors / (r * SIGMA)[:, None]
    cosine = batch.sign * (unit[batch.bond1] * unit[batch.bond2]).sum(-1)
    triple = LAMBDA * jnp.square(cosine + 1 / 3) * reach[batch.bond1] * reach[batch.bond2]
    return EPSILON * (pair.sum() + triple.sum())


@jax.jit
def _evaluate(batch: BondBatch) -> tuple[jax.Array, jax.Array, jax.Array]:
    vectors = jnp.asarray(batch.vectors)
    energy, gradient = jax.value_and_grad(_energy)(vectors, batch)
    n_atoms = len(batch.species)
    forces = jax.ops.segment_sum(gradient, batch.first, n_atoms) - jax.ops.segment_sum(gradient, batch.second, n_atoms)
    virial = vectors.T @ gradient
    return energy, forces, (virial + virial.T) / 2
