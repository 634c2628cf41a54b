"""Results that become no entries."""

from __future__ import annotations

from dft.tables import DONE
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.stability.plausible import implausible_energy, implausible_geometry


def unusable(status: str, crystal: Crystal, e_form: float) -> str | None:
    """Why a result is no entry, or None: how it failed, what is broken in its crystal, what cannot be."""
    return unusable_geometry(status, crystal) or implausible_energy(e_form)


def unusable_geometry(status: str, crystal: Crystal) -> str | None:
    """The same before there are references to know the formation energy by."""
    if status != DONE:
        return status
    return invalid_reason(crystal) or implausible_geometry(crystal)
