"""Periodic neighbour lists on plain arrays (backend: vesin, one compiled cell list)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from vesin import NeighborList as _VesinList

from gnome_core.crystals.crystal import Crystal


class NeighborList(NamedTuple):
    """Directed edges within a cutoff, both directions, every periodic image counted.

    senders, receivers: (e,) int32; images: (e, 3) int32 lattice translations of the receiver.
    Displacement sender -> receiver: (frac[receivers] + images - frac[senders]) @ lattice.
    """

    senders: np.ndarray
    receivers: np.ndarray
    images: np.ndarray


def neighbor_list(crystal: Crystal, cutoff: float) -> NeighborList:
    """Neighbours within `cutoff` Å, ordered by sender, then receiver, then image. Empty lists are legal."""
    senders, receivers, images = _VesinList(cutoff=cutoff, full_list=True, sorted=True).compute(
        points=crystal.positions, box=crystal.lattice, periodic=True, quantities="ijS"
    )
    return NeighborList(senders.astype(np.int32), receivers.astype(np.int32), images.astype(np.int32))
