"""A NequIP potential that `gnome potential train` made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnome_core.crystals.crystal import Crystal
from gnome_core.models.config import NequIPConfig
from gnome_core.models.nequip import NequIP
from gnome_core.potentials.edge_potential import EdgePotential
from gnome_core.potentials.files import BadPotential, PotentialRecord, load_potential
from gnome_core.potentials.learnt import learnt_corrections, learnt_scale
from gnome_core.stability.corrections import Corrections


class TrainedPotential(EdgePotential):
    """NequIP with its weights, shifts and energy scale, and the record of its training."""

    def __init__(self, variables: dict, record: PotentialRecord):
        """Raises BadPotential for a record of another network."""
        if not isinstance(record.config, NequIPConfig):
            raise BadPotential("a fine-tuned CHGNet; molecular dynamics and what needs it take a NequIP")
        self.record = record
        scale = learnt_scale("nequip", variables, record)
        super().__init__(NequIP(record.config), variables, record.shifts, record.config.cutoff, scale)

    @classmethod
    def load(cls, path: str | Path) -> TrainedPotential:
        """The potential in the two files of `path`. Raises BadPotential."""
        return cls(*load_potential(path))

    def corrections(self, crystals: Sequence[Crystal]) -> Corrections | None:
        """What is to be added to the energies of relaxed crystals."""
        return learnt_corrections(crystals, self.record)
