"""Symmetry of crystals by moyopy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gnome_core.crystals.crystal import Crystal

if TYPE_CHECKING:
    from moyopy import MoyoDataset

# It warns whenever a cell is not primitive.
logging.getLogger("moyo").setLevel(logging.ERROR)


def symmetry_dataset(crystal: Crystal, symprec: float) -> MoyoDataset | None:
    """moyopy's dataset of the crystal at `symprec` Å, or None where it finds none (overlapping atoms)."""
    import moyopy

    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist())
    try:
        return moyopy.MoyoDataset(cell, symprec=symprec)
    except Exception:  # moyopy's own errors have no common class
        return None
