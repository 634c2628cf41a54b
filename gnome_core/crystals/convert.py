"""Crystals to and from pymatgen and ASE, which are imported only when called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.crystal import Crystal, InvalidCrystal

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


def to_structure(crystal: Crystal) -> Structure:
    """The crystal as a pymatgen Structure, sites in the same order."""
    from pymatgen.core import Structure

    return Structure(crystal.lattice, [SYMBOLS[z] for z in crystal.numbers], crystal.frac_coords)


def from_structure(structure: Structure) -> Crystal:
    """The crystal of a pymatgen Structure; oxidation states, spins and site properties are dropped.

    Raises InvalidCrystal for disordered sites (partial_occupancy) and for dummy species (unknown_element).
    """
    from pymatgen.core import DummySpecies

    if not structure.is_ordered:
        site = next(site for site in structure if not site.is_ordered)
        raise InvalidCrystal(
            "partial_occupancy", f"site {site.species_string!r} is disordered; use an ordered approximant of the cell"
        )
    species = [site.specie for site in structure]
    for one in species:
        if isinstance(one, DummySpecies):
            raise InvalidCrystal("unknown_element", f"{one} is not an element; correct the symbol")
    return Crystal(structure.lattice.matrix, structure.frac_coords, np.array([one.Z for one in species], np.int64))


def to_atoms(crystal: Crystal) -> Atoms:
    """The crystal as periodic ASE Atoms, sites in the same order."""
    from ase import Atoms

    return Atoms(
        numbers=crystal.numbers.astype(int), cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True
    )


def from_atoms(atoms: Atoms) -> Crystal:
    """The crystal of ASE Atoms. Raises InvalidCrystal (not_periodic) unless all three directions are periodic."""
    if not all(atoms.pbc):
        raise InvalidCrystal("not_periodic", f"periodic in {list(map(bool, atoms.pbc))} only; give a bulk crystal")
    return Crystal(atoms.cell.array, atoms.get_scaled_positions(wrap=False), atoms.numbers)
