"""Symmetry of crystals by moyopy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gnome_core.crystals.crystal import Crystal

if TYPE_CHECKING:
    from moyopy import MoyoDataset

# It warns whenever a cell is not primitive.
logging.getLogger("moyo").setLevel(logging.ERROR)


class SpaceGroup(NamedTuple):
    """symbol: Hermann-Mauguin's, short ("Pm-3m"). number: 1 to 230. pearson: Pearson symbol ("cP2")."""

    symbol: str
    number: int
    pearson: str

    def __str__(self) -> str:
        return f"{self.symbol} ({self.number})"


def space_group(crystal: Crystal, symprec: float = 0.01) -> SpaceGroup | None:
    """The crystal's space group at `symprec` Å by moyopy, or None where it finds none (overlapping atoms)."""
    import moyopy

    found = symmetry_dataset(crystal, symprec)
    if found is None:
        return None
    symbol = moyopy.HallSymbolEntry(found.hall_number).hm_short.replace(" ", "")
    return SpaceGroup(symbol, found.number, found.pearson_symbol)


def symmetry_dataset(crystal: Crystal, symprec: float) -> MoyoDataset | None:
    """moyopy's dataset of the crystal at `symprec` Å, or None where it finds none (overlapping atoms)."""
    import moyopy

    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist())
    try:
        return moyopy.MoyoDataset(cell, symprec=symprec)
    except Exception:  # moyopy's own errors have no common class
        return None


def primitive_cell(crystal: Crystal, symprec: float) -> Crystal | None:
    """The standardised primitive cell, its sites where the symmetry that holds to `symprec` Å has them; else None."""
    found = symmetry_dataset(crystal, symprec)
    if found is None:
        return None
    cell = found.prim_std_cell
    return Crystal(np.array(cell.basis), np.array(cell.positions), np.array(cell.numbers))
