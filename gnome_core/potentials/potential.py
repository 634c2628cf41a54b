"""What a potential answers about a crystal, and which crystals it cannot judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.errors import GnomeError


class CannotJudge(GnomeError, ValueError):
    """A crystal about which a potential knows nothing. `reason` is the short name that results are counted by."""

    reason = "cannot_judge"


class UnknownElement(CannotJudge):
    """A crystal with an element that the potential was never shown."""

    reason = "unknown_element"


class IsolatedAtom(CannotJudge):
    """A crystal with an atom that has no neighbour within the potential's cutoff: it feels nothing, wherever it is."""

    reason = "isolated_atom"


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

    def check(self, crystal: Crystal) -> None:
        """Raise `CannotJudge` for a crystal whose energy the potential does not know."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """One answer per crystal, in order. Equal lists give equal bits. Raises UnknownElement.

        An isolated atom is answered, for relaxations may pass through such crystals; they must not end there.
        """
