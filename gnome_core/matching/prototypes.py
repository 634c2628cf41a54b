"""Prototypes: crystals with the same space group and the same Wyckoff positions, whatever their elements."""

from __future__ import annotations

import warnings

import numpy as np

from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal

SYMPREC = 0.1  # Å; pymatgen's and AFLOW's default for prototypes


def protostructure_label(crystal: Crystal, symprec: float = SYMPREC) -> str | None:
    """AFLOW-like label with the elements, "AB2C4_cF56_227_a_d_e:Al-Mg-O", or None where no symmetry is found.

    Symmetry by moyopy at `symprec` Å.
    """
    import moyopy
    from pymatgen.analysis.prototypes import get_protostructure_label_from_moyopy

    # The labels count orbits of the primitive cell; of a larger one moyopy would say that it dropped operations.
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist())
    try:
        primitive = moyopy.MoyoDataset(cell, symprec=symprec).prim_std_cell
        structure = to_structure(
            Crystal(np.array(primitive.basis), np.array(primitive.positions), np.array(primitive.numbers))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of pymatgen about itself
            return get_protostructure_label_from_moyopy(structure, raise_errors=True, symprec=symprec)
    except Exception:  # moyopy's own errors have no common class, and a crystal without a label is no error
        return None


def prototype_of(label: str) -> str:
    """The protostructure's label without its elements and in canonical order: equal for isopointal crystals.

    It tells by Wyckoff occupation alone; XtalFinder also compares geometry and separates more, so a count of these
    is a lower bound of a count of prototypes.
    """
    from pymatgen.analysis.prototypes import get_prototype_from_protostructure

    return get_prototype_from_protostructure(label)
