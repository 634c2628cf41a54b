"""Potentials of networks over edges of atoms, evaluated in padded batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.batches import split
from gnome_core.graphs.edges import EdgeGraph, EdgeShape, edge_graph, fitting_shape, pack
from gnome_core.potentials.coverage import by_number, check_elements, check_neighbours
from gnome_core.potentials.gradients import Prediction, predict_compiled
from gnome_core.potentials.potential import Evaluation

# Edges are what costs: graphs and atoms are so many that they seldom end a batch first. What a batch touches between
# two layers should fit the caches of a CPU: larger ones are slower a crystal.
LADDER = (EdgeShape(16, 16, 64), EdgeShape(16, 32, 128), EdgeShape(32, 64, 256), EdgeShape(64, 128, 512))


class EdgePotential:
    """A network with its variables, the shifts of its elements (eV, by atomic number), its cutoff (Å) and the name of
    its energy scale (see `gnome_core.potentials.potential.Potential`).

    Crystals share batches that fit the top shape of a short ladder, padded to the smallest shape that
    holds them. A crystal larger than the top gets a shape of its own.
    """

    def __init__(
        self,
        network: nn.Module,
        variables: dict,
        shifts: Mapping[int, float],
        cutoff: float,
        scale: str,
    ):
        self.network, self.cutoff, self.scale = network, cutoff, scale
        self.variables = jax.tree.map(jnp.asarray, variables)
        self.shifts = by_number(shifts)

    def check(self, crystal: Crystal) -> None:
        """Raise UnknownElement or IsolatedAtom for a crystal that the potential cannot judge."""
        check_elements(crystal, ~np.isnan(self.shifts))
        check_neighbours(crystal, self.cutoff)

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """One answer per crystal, in order; no magnetic moments. Raises UnknownElement."""
        for crystal in crystals:
            check_elements(crystal, ~np.isnan(self.shifts))
        graphs = [edge_graph(c, self.cutoff) for c in crystals]
        # Dispatch every batch before the first is waited for: they then run side by side.
        batches = [(run, self._dispatch([graphs[i] for i in run])) for run in split(graphs, LADDER[-1])]
        answers: dict[int, Evaluation] = {}
        for run, prediction in batches:
            atoms, forces, virials = (np.asarray(x, np.float64) for x in prediction)
            first = 0
            for index, i in enumerate(run):
                own = slice(first, first + crystals[i].n_sites)
                # Summed in double precision: large shifts would cost single precision its digits.
                energy = float(atoms[own].sum() + self.shifts[crystals[i].numbers].sum())
                answers[i] = Evaluation(energy, forces[own], virials[index] / crystals[i].volume, None)
                first = own.stop
        return [answers[i] for i in range(len(crystals))]

    def _dispatch(self, graphs: Sequence[EdgeGraph]) -> Prediction:
        return predict_compiled(self.network, self.variables, pack(graphs, fitting_shape(graphs, LADDER)))
