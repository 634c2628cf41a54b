"""What potentials that were trained here have in common: the name of their energies and what is added to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from flax.traverse_util import flatten_dict

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.files import PotentialRecord
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.stability.corrections import Corrections, mp2020_corrections

CORRECTED = "mp2020"  # in a scale's name, where corrections are to be added to its energies
DIGEST = 2  # version of what a scale's name is made of; 1, which named none, left the shifts out


def learnt_scale(architecture: str, variables: dict, record: PotentialRecord) -> str:
    """An engine of its own: never mixed with its teacher's. See `gnome_core.stability.published.compatible`."""
    return f"{record.scale}/{architecture}-{DIGEST}-{_digest(variables, record)}"


def corrected(frames: LabelledFrames) -> LabelledFrames:
    """Frames as potentials learn them: with MP2020 corrections in their energies, on scales that get such, whose name
    ".../mp2020" becomes "...+mp2020"; those that the scheme refuses are left out. Others as they are.

    Raw PBE(+U) energies of a transition metal jump by eV an atom where oxygen or fluorine comes to it, for its U. No
    network follows that: one that learnt raw energies, corrected afterwards, had metal-rich oxides 0.6 eV/atom too
    low. Frames of one group get one correction, that of the lowest of them.
    """
    if CORRECTED not in frames.scale.split("/"):
        return frames
    lowest: dict[str, int] = {}
    per_atom = frames.energies / [crystal.n_sites for crystal in frames.crystals]
    for row in np.argsort(per_atom, kind="stable").tolist():
        lowest.setdefault(frames.groups[row], row)
    found = mp2020_corrections([frames.crystals[row] for row in lowest.values()]).per_atom
    of_group = dict(zip(lowest, found, strict=True))
    added = np.array([of_group[group] for group in frames.groups])
    energies = frames.energies + added * [crystal.n_sites for crystal in frames.crystals]
    kept = np.isfinite(added)
    scale = frames.scale.replace(f"/{CORRECTED}", f"+{CORRECTED}")
    return replace(frames.take(kept), energies=energies[kept], scale=scale)


def learnt_corrections(crystals: Sequence[Crystal], record: PotentialRecord) -> Corrections | None:
    """What is to be added to the energies of relaxed crystals: MP2020 corrections of a potential that learnt raw
    energies which get them, as this project's did until `corrected`."""
    if CORRECTED not in record.scale.split("/"):
        return None
    return mp2020_corrections(crystals)


def _digest(variables: dict, record: PotentialRecord) -> str:
    """8 hex characters of all that decides an energy: the network's shape, the shifts and the weights."""
    digest = hashlib.blake2b(digest_size=4)
    digest.update(json.dumps([record.config.model_dump(mode="json"), sorted(record.shifts.items())]).encode())
    for name, value in sorted(flatten_dict(variables, sep="/").items()):
        digest.update(name.encode() + np.asarray(value, np.float32).tobytes())
    return digest.hexdigest()
