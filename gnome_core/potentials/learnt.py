"""What potentials that were trained here have in common: the name of their energies and what is added to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from flax.traverse_util import flatten_dict

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.files import PotentialRecord
from gnome_core.stability.corrections import Corrections, mp2020_corrections

DIGEST = 2  # version of what a scale's name is made of; 1, which named none, left the shifts out


def learnt_scale(architecture: str, variables: dict, record: PotentialRecord) -> str:
    """An engine of its own: never mixed with its teacher's. See `gnome_core.stability.published.compatible`."""
    return f"{record.scale}/{architecture}-{DIGEST}-{_digest(variables, record)}"


def learnt_corrections(crystals: Sequence[Crystal], record: PotentialRecord) -> Corrections | None:
    """What is to be added to the energies of relaxed crystals: MP2020 corrections if those learnt from get them."""
    if "mp2020" not in record.scale.split("/"):
        return None
    return mp2020_corrections(crystals)


def _digest(variables: dict, record: PotentialRecord) -> str:
    """8 hex characters of all that decides an energy: the network's shape, the shifts and the weights."""
    digest = hashlib.blake2b(digest_size=4)
    digest.update(json.dumps([record.config.model_dump(mode="json"), sorted(record.shifts.items())]).encode())
    for name, value in sorted(flatten_dict(variables, sep="/").items()):
        digest.update(name.encode() + np.asarray(value, np.float32).tobytes())
    return digest.hexdigest()
