"""Periodic neighbour lists on plain arrays (backend: vesin, one compiled cell list)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from vesin import NeighborList as _VesinList

from gnome_core.crystals.crystal import Crystal, check_finite


class NeighborList(NamedTuple):
    """Directed edges within a cutoff, both directions, every periodic image counted.

    senders, receivers: (e,) int32; images: (e, 3) int32 lattice translations of the receiver.
    Displacement sender -> receiver: (frac[receivers] + images - frac[senders]) @ lattice.
    """

    senders: np.ndarray
    receivers: np.ndarray
    images: np.ndarray


def neighbor_list(crystal: Crystal, cutoff: float) -> NeighborList:
    """Neighbours within `cutoff` Å, ordered by sender, then receiver, then image. Empty lists are legal.

    Raises InvalidCrystal for a lattice or coordinates that are not finite.
    """
    check_finite(crystal)
    senders, receivers, images = _VesinList(cutoff=cutoff, full_list=True, sorted=True).compute(
        points=crystal.positions, box=crystal.lattice, periodic=True, quantities="ijS"
    )
    return NeighborList(senders.astype(np.int32), receivers.astype(np.int32), images.astype(np.int32))


def pair_lists(crystals: Sequence[Crystal], cutoff: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each crystal, every pair of neighbours within `cutoff` Å once, images apart, in no order of note.

    Yields first, second: (p,) atoms and distances: (p,) Å. Half the work of `neighbor_list`, for who needs no vectors.
    """
    pairs = _VesinList(cutoff=cutoff, full_list=False)
    for crystal in crystals:
        first, second, distances = pairs.compute(crystal.positions, crystal.lattice, True, "ijd")
        yield first, second, distances
