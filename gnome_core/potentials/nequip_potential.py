"""A trained NequIP potential, evaluated in padded batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.edges import EdgeGraph, EdgeShape, edge_graph, fitting_shape, pack, split
from gnome_core.models.nequip import NequIP
from gnome_core.potentials.coverage import check_elements, check_neighbours
from gnome_core.potentials.files import PotentialRecord, load_potential
from gnome_core.potentials.gradients import Prediction, predict_compiled
from gnome_core.potentials.potential import Evaluation


class TrainedPotential:
    """NequIP with its weights, shifts and energy scale (see `gnome_core.potentials.potential.Potential`).

    Crystals are taken in order while they fit the top shape of a short ladder, and padded to the smallest shape that
    holds them. A crystal larger than the top gets a shape of its own.
    """

    def __init__(self, variables: dict, record: PotentialRecord, ladder: Sequence[EdgeShape] | None = None):
        self.record = record
        # An engine of its own: never mixed with its teacher's.
        self.scale = f"{record.scale}/nequip-{DIGEST}-{_digest(variables, record)}"
        self.network = NequIP(record.config)
        self.variables = jax.tree.map(jnp.asarray, variables)
        self.shifts = np.full(256, np.nan)
        self.shifts[list(record.shifts)] = list(record.shifts.values())
        self.ladder = ladder or [EdgeShape(4, 32, 192), EdgeShape(8, 64, 384), EdgeShape(20, 160, 960)]

    @classmethod
    def load(cls, path: str | Path) -> TrainedPotential:
        """The potential in the two files of `path`. Raises BadPotential."""
        return cls(*load_potential(path))

    def check(self, crystal: Crystal) -> None:
        """Raise UnknownElement or IsolatedAtom for a crystal that the potential cannot judge."""
        check_elements(crystal, ~np.isnan(self.shifts))
        check_neighbours(crystal, self.record.config.cutoff)

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """One answer per crystal, in order; no magnetic moments. Raises UnknownElement."""
        for crystal in crystals:
            check_elements(crystal, ~np.isnan(self.shifts))
        graphs = [edge_graph(c, self.record.config.cutoff) for c in crystals]
        # Dispatch every batch before the first is waited for: they then run side by side.
        batches = [(run, self._dispatch([graphs[i] for i in run])) for run in split(graphs, self.ladder[-1])]
        answers: list[Evaluation] = []
        for run, prediction in batches:
            atoms, forces, virials = (np.asarray(x, np.float64) for x in prediction)
            first = 0
            for index, i in enumerate(run):
                own = slice(first, first + crystals[i].n_sites)
                # Summed in double precision: large shifts would cost single precision its digits.
                energy = float(atoms[own].sum() + self.shifts[crystals[i].numbers].sum())
                answers.append(Evaluation(energy, forces[own], virials[index] / crystals[i].volume, None))
                first = own.stop
        return answers

    def _dispatch(self, graphs: Sequence[EdgeGraph]) -> Prediction:
        return predict_compiled(self.network, self.variables, pack(graphs, fitting_shape(graphs, self.ladder)))


DIGEST = 2  # version of what a scale's name is made of; 1, which named none, left the shifts out


def _digest(variables: dict, record: PotentialRecord) -> str:
    """8 hex characters of all that decides an energy: the network's shape, the shifts and the weights."""
    digest = hashlib.blake2b(digest_size=4)
    digest.update(json.dumps([record.config.model_dump(mode="json"), sorted(record.shifts.items())]).encode())
    for name, value in sorted(flatten_dict(variables, sep="/").items()):
        digest.update(name.encode() + np.asarray(value, np.float32).tobytes())
    return digest.hexdigest()
