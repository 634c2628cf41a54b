"""What evaluates jobs: crystals in, relaxations or the reasons for their failure out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # settings name their evaluator, and are read in a moment
    from gnome_core.crystals.crystal import Crystal
    from gnome_core.potentials.relax import Relaxation, RelaxationFailure
    from gnome_core.stability.corrections import Corrections


class Evaluator(Protocol):
    """scale: energy scale of the answers. protocol: every setting that decides them; part of the job digest."""

    name: str

    @property
    def scale(self) -> str: ...

    @property
    def protocol(self) -> Mapping[str, object]: ...

    def corrections(self, crystals: Sequence[Crystal]) -> Corrections | None:
        """What is to be added to the energies of relaxed crystals; None where they need none, or the engine said."""
        ...

    def evaluate(
        self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None
    ) -> list[Relaxation | RelaxationFailure]:
        """One outcome a crystal, in order. Equal lists give equal bits. progress hears of every few that finish."""
        ...
