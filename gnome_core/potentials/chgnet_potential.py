"""CHGNet as a potential: as published, and fine-tuned here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.batches import split
from gnome_core.graphs.bonds import BatchShape, BondGraph, bond_graph, fitting_shape, pack
from gnome_core.models import chgnet
from gnome_core.potentials.coverage import by_number, check_elements, check_neighbours
from gnome_core.potentials.files import PotentialRecord
from gnome_core.potentials.learnt import learnt_corrections, learnt_scale
from gnome_core.potentials.potential import Evaluation
from gnome_core.stability.corrections import Corrections

# A crystal costs the same in any full shape from 100 atoms on; the small ones serve a relaxation's last crystals. Bonds
# and angles are what costs: atoms are so many that they seldom end a batch first.
LADDER = (
    BatchShape(16, 40, 112, 768, 768),
    BatchShape(32, 80, 224, 1536, 1536),
    BatchShape(64, 192, 512, 3840, 3840),
)


class CHGNetPotential:
    """CHGNet (`gnome_core.models.chgnet`), evaluated in padded batches.

    trained: (256,) bool, the elements that it has seen, by atomic number. Crystals share batches that fit
    the top shape of a short ladder, padded to the smallest shape that holds them: a run compiles a few programs
    only. A crystal larger than the top gets a shape of its own.
    """

    def __init__(self, params: chgnet.Params, scale: str, trained: np.ndarray):
        self.params, self.scale, self.trained = params, scale, trained

    @classmethod
    def published(cls, version: str = "0.3.0") -> CHGNetPotential:
        """That of `chgnet.VERSIONS`."""
        return cls(chgnet.load_params(version), f"chgnet-{version}", chgnet.TRAINED[version])

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
        batches = [(part, self._dispatch([graphs[i] for i in part])) for part in split(graphs, LADDER[-1])]
        answers: dict[int, Evaluation] = {}
        for part, outputs in batches:
            energy, forces, virial, magmoms = map(np.asarray, outputs)
            atom = 0
            for index, i in enumerate(part):
                own = slice(atom, atom + crystals[i].n_sites)
                stress = virial[index].astype(np.float64) / crystals[i].volume
                answers[i] = Evaluation(float(energy[index]), forces[own].astype(np.float64), stress, magmoms[own])
                atom = own.stop
        return [answers[i] for i in range(len(crystals))]

    def _dispatch(self, graphs: Sequence[BondGraph]) -> tuple[jax.Array, ...]:
        return chgnet.evaluate(self.params, pack(graphs, fitting_shape(graphs, LADDER), chgnet.FAR))


class FineTunedCHGNet(CHGNetPotential):
    """A CHGNet that `gnome potential train --from chgnet` made. It learnt energies, forces and stresses: of magnetic
    moments it says nothing."""

    def __init__(self, variables: dict, record: PotentialRecord):
        self.record = record
        self.shifts = by_number(record.shifts)
        params = chgnet.params_of(variables["params"])
        super().__init__(params, learnt_scale("chgnet", variables, record), ~np.isnan(self.shifts))

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """One answer per crystal, in order. Raises UnknownElement."""
        shifts = [float(self.shifts[crystal.numbers].sum()) for crystal in crystals]
        answers = super().evaluate(crystals)
        return [replace(a, energy=a.energy + s, magmoms=None) for a, s in zip(answers, shifts, strict=True)]

    def corrections(self, crystals: Sequence[Crystal]) -> Corrections | None:
        """What is to be added to the energies of relaxed crystals."""
        return learnt_corrections(crystals, self.record)
