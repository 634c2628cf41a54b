"""CHGNet 0.3.0, the evaluator that `embedded` stands for: batched relaxation in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.chgnet_potential import CHGNetPotential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import OPTIMIZER, Relaxation, RelaxationFailure, relax


class EmbeddedEvaluator:
    """Relaxes positions and cell; see `gnome_core.potentials.relax`.

    Its jobs are called `embedded` whichever of its names was given, as in stores from when it had no other.
    """

    name = "embedded"
    scale = "chgnet-0.3.0"

    def __init__(self, config: RelaxConfig):
        self.config = config

    @property
    def protocol(self) -> Mapping[str, object]:
        return {
            "evaluator": self.name,
            "scale": self.scale,
            "optimizer": OPTIMIZER,
            "relax": self.config.model_dump(),
        }

    @cached_property
    def potential(self) -> CHGNetPotential:
        """Loaded when the first crystal comes."""
        return CHGNetPotential.published()

    def corrections(self, crystals: Sequence[Crystal]) -> None:
        """None: its energies are corrected ones."""

    def evaluate(
        self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None
    ) -> list[Relaxation | RelaxationFailure]:
        return relax(crystals, self.potential, self.config, progress)
