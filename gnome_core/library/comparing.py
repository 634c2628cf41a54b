"""Which crystals are the same, and which are of one prototype."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnome_core.library.kinds import Crystals, take
from gnome_core.matching.clusters import cluster_structures
from gnome_core.matching.prototypes import SYMPREC, protostructure_label, prototype_of


def cluster(crystals: Crystals, energies: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
    """(n,) int labels, equal for crystals that are the same structure: what pymatgen's StructureMatcher joins, at its
    defaults, directly or through others.

    energies: (n,) eV/atom, which number the clusters: 0 holds the lowest. None = by first place, so that
    `numpy.unique(labels, return_index=True)[1]` are the first of each. Raises ValueError for energies that are not
    finite or not n, and what `take` raises.
    """
    found = take(crystals).crystals
    return cluster_structures(found, np.zeros(len(found)) if energies is None else np.asarray(energies))


def prototypes(
    crystals: Crystals, *, symprec: float = SYMPREC, elements: bool = False
) -> str | list[str | None] | None:
    """Labels of prototypes, AFLOW-like, as "AB2C4_cF56_227_a_d_e": one for one, a list for a list; equal for crystals
    of the same space group and Wyckoff positions. None where no symmetry is found.

    symprec: Å. elements: keep them, as in "...:Al-Mg-O", in the order of the crystal's own label.
    Raises what `take` raises.
    """
    given = take(crystals)
    labels = [protostructure_label(crystal, symprec) for crystal in given.crystals]
    return given.answer([label if label is None or elements else prototype_of(label) for label in labels])
