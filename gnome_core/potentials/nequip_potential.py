"""A NequIP potential that `gnome potential train` made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.edges import EdgeShape
from gnome_core.models.nequip import NequIP
from gnome_core.potentials.edge_potential import LADDER, EdgePotential
from gnome_core.potentials.files import PotentialRecord, load_potential
from gnome_core.stability.corrections import Corrections, mp2020_corrections
from gnome_core.stability.published import LEARNT


class TrainedPotential(EdgePotential):
    """NequIP with its weights, shifts and energy scale, and the record of its training."""

    def __init__(self, variables: dict, record: PotentialRecord, ladder: Sequence[EdgeShape] = LADDER):
        self.record = record
        # An engine of its own: never mixed with its teacher's.
        scale = f"{record.scale}{LEARNT}{DIGEST}-{_digest(variables, record)}"
        super().__init__(NequIP(record.config), variables, record.shifts, record.config.cutoff, scale, ladder)

    @classmethod
    def load(cls, path: str | Path) -> TrainedPotential:
        """The potential in the two files of `path`. Raises BadPotential."""
        return cls(*load_potential(path))

    def corrections(self, crystals: Sequence[Crystal]) -> Corrections | None:
        """What is to be added to the energies of relaxed crystals: MP2020 corrections if those learnt from get them."""
        if "mp2020" not in self.record.scale.split("/"):
            return None
        return mp2020_corrections(crystals)


DIGEST = 2  # version of what a scale's name is made of; 1, which named none, left the shifts out


def _digest(variables: dict, record: PotentialRecord) -> str:
    """8 hex characters of all that decides an energy: the network's shape, the shifts and the weights."""
    digest = hashlib.blake2b(digest_size=4)
    digest.update(json.dumps([record.config.model_dump(mode="json"), sorted(record.shifts.items())]).encode())
    for name, value in sorted(flatten_dict(variables, sep="/").items()):
        digest.update(name.encode() + np.asarray(value, np.float32).tobytes())
    return digest.hexdigest()
