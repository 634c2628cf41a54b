"""CHGNet 0.3.0 by its name."""

from __future__ import annotations

from collections.abc import Mapping

from dft.evaluators.potential import PotentialEvaluator
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import OPTIMIZER


class CHGNetEvaluator(PotentialEvaluator):
    """Its jobs are called `embedded`, as in stores from when that name stood for it."""

    def __init__(self, config: RelaxConfig):
        super().__init__("chgnet", config, "chgnet")

    @property
    def scale(self) -> str:
        return "chgnet-0.3.0"

    @property
    def protocol(self) -> Mapping[str, object]:
        return {
            "evaluator": "embedded",
            "scale": self.scale,
            "optimizer": OPTIMIZER,
            "relax": self.config.model_dump(),
        }
