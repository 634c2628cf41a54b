"""What evaluates jobs: crystals in, relaxations or the reasons for their failure out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from gnome_core.potentials.config import RelaxConfig

if TYPE_CHECKING:  # settings check evaluators' names, and must load nothing heavy
    from gnome_core.crystals.crystal import Crystal
    from gnome_core.potentials.relax import Relaxation, RelaxationFailure


class Evaluator(Protocol):
    """scale: energy scale of the answers. protocol: every setting that decides them; part of the job digest."""

    name: str

    @property
    def scale(self) -> str: ...

    @property
    def protocol(self) -> Mapping[str, object]: ...

    def evaluate(
        self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None
    ) -> list[Relaxation | RelaxationFailure]:
        """One outcome a crystal, in order. Equal lists give equal bits. progress hears of every few that finish."""
        ...


POTENTIAL_KINDS = ("potential", "label")  # followed by ":" and a name of gnome_core.potentials.named


def check_name(name: str) -> str:
    """The name, or a ValueError that says which there are."""
    kind, _, potential = name.partition(":")
    if name != "embedded" and not (kind in POTENTIAL_KINDS and potential):
        raise ValueError(f"no evaluator {name!r}; there is: embedded, potential:FILE.npz")
    return name


def make_evaluator(name: str, config: RelaxConfig) -> Evaluator:
    """The evaluator of that name. Raises ValueError naming the ones there are."""
    kind, _, potential = check_name(name).partition(":")
    if kind in POTENTIAL_KINDS:
        from dft.potential import Labeller, PotentialEvaluator

        return (PotentialEvaluator if kind == "potential" else Labeller)(potential, config)
    from dft.embedded import EmbeddedEvaluator

    return EmbeddedEvaluator(config)
