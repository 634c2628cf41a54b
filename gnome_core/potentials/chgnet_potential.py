"""CHGNet as a potential."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.bonds import BatchShape, BondGraph, bond_graph, pack
from gnome_core.models import chgnet
from gnome_core.potentials.coverage import check_elements, check_neighbours
from gnome_core.potentials.potential import Evaluation


class CHGNetPotential:
    """CHGNet (`gnome_core.models.chgnet`) of a published version, evaluated in padded batches.

    Crystals are taken in order while they fit the top shape of a short ladder, and padded to the smallest shape that
    holds them: a run compiles a few programs only. A crystal larger than the top gets a shape of its own.
    """

    def __init__(self, version: str = "0.3.0", ladder: Sequence[BatchShape] | None = None):
        self.params = chgnet.load_params(version)
        self.scale, self.trained = f"chgnet-{version}", chgnet.TRAINED[version]
        # A crystal costs the same in any full shape from 100 atoms on; the small ones serve a relaxation's last
        # crystals. Bonds and angles are what costs: atoms are so many that they seldom end a batch first.
        self.ladder = ladder or [
            BatchShape(16, 40, 112, 768, 768),
            BatchShape(32, 80, 224, 1536, 1536),
            BatchShape(64, 192, 512, 3840, 3840),
        ]

    def check(self, crystal: Crystal) -> None:
        """Raise UnknownElement or IsolatedAtom for a crystal that CHGNet cannot judge: the original refuses these."""
        check_elements(crystal, self.trained)
        check_neighbours(crystal, chgnet.ATOM_CUTOFF)

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """One answer per crystal, in order. Raises UnknownElement."""
        for crystal in crystals:
            check_elements(crystal, self.trained)
        graphs = [bond_graph(c, chgnet.ATOM_CUTOFF, chgnet.BOND_CUTOFF) for c in crystals]
        # Dispatch every batch before the first is waited for: they then run side by side.
        batches = [(part, self._dispatch([graphs[i] for i in part])) for part in self._split(graphs)]
        answers: list[Evaluation] = []
        for part, outputs in batches:
            energy, forces, virial, magmoms = map(np.asarray, outputs)
            atom = 0
            for index, i in enumerate(part):
                own = slice(atom, atom + crystals[i].n_sites)
                stress = virial[index].astype(np.float64) / crystals[i].volume
                answers.append(Evaluation(float(energy[index]), forces[own].astype(np.float64), stress, magmoms[own]))
                atom = own.stop
        return answers

    def _split(self, graphs: Sequence[BondGraph]) -> list[list[int]]:
        parts: list[list[int]] = []
        size = np.zeros(4, int)
        for i, graph in enumerate(graphs):
            if not parts or not self.ladder[-1].holds(len(parts[-1]) + 1, size + graph.size):
                parts.append([])
                size = np.zeros(4, int)
            parts[-1].append(i)
            size = size + graph.size
        return parts

    def _dispatch(self, graphs: Sequence[BondGraph]) -> tuple[jax.Array, ...]:
        size = np.sum([g.size for g in graphs], axis=0)
        shape = next((s for s in self.ladder if s.holds(len(graphs), size)), self.ladder[-1])
        while not shape.holds(len(graphs), size):
            shape = shape.doubled()
        batch = pack(graphs, shape, far=2 * chgnet.ATOM_CUTOFF)
        return chgnet.evaluate(self.params, batch, shape.short)
