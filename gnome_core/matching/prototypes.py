"""Prototypes: crystals with the same space group and the same Wyckoff positions, whatever their elements."""

from __future__ import annotations

import warnings

from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import primitive_cell

SYMPREC = 0.1  # Å; pymatgen's and AFLOW's default for prototypes


def protostructure_label(crystal: Crystal, symprec: float = SYMPREC) -> str | None:
    """AFLOW-like label with the elements, "AB2C4_cF56_227_a_d_e:Al-Mg-O", or None where no symmetry is found.

    Symmetry by moyopy at `symprec` Å.
    """
    from pymatgen.analysis.prototypes import get_protostructure_label_from_moyopy

    primitive = primitive_cell(crystal, symprec)
    if primitive is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of pymatgen about itself
            return get_protostructure_label_from_moyopy(to_structure(primitive), raise_errors=True, symprec=symprec)
    except ValueError:  # its Wyckoff positions do not add up to the composition
        return None


def prototype_of(label: str) -> str:
    """The protostructure's label without its elements and in canonical order: equal for isopointal crystals.

    It tells by Wyckoff occupation alone; XtalFinder also compares geometry and separates more, so a count of these
    is a lower bound of a count of prototypes.
    """
    from pymatgen.analysis.prototypes import get_prototype_from_protostructure

    return get_prototype_from_protostructure(label)
