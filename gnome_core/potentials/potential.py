"""What a potential answers about a crystal, and the embedded potential, which answers in padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.errors import GnomeError


class UnknownElement(GnomeError, ValueError):
    """A crystal with an element that the potential was never shown."""


@dataclass(frozen=True)
class Evaluation:
    """energy: eV per cell. forces: (n, 3) eV/Å. stress: (3, 3) eV/Å^3, tension positive. magmoms: (n,) in Bohr
    magnetons, None from a potential without any."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    magmoms: np.ndarray | None


class Potential(Protocol):
    """Evaluates crystals; `scale` names the energy scale of the answers."""

    scale: str

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """One answer per crystal, in order. Equal lists give equal bits."""
