"""The [potential] table of round.toml: the potentials that train stages train. Loads no jax."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gnome_core.models.config import NequIPConfig
from gnome_core.settings import Section
from gnome_core.training.potential.config import PotentialTrainingConfig


class RoundPotentialConfig(Section):
    """A committee of potentials, trained on all frames that the store has, and what its spread flags.

    A threshold on the largest deviation of a force is DP-GEN's (Zhang et al., Comput. Phys. Commun. 253, 107206, 2020).
    """

    members: int = Field(3, ge=2, le=100, description="potentials; the first is the one that is used by name")
    start: Literal["fine_tune", "scratch"] = Field(
        "fine_tune",
        description="fine_tune: from the last potentials of the store, at first from `pretrained`, where they know "
        "every element of the frames | scratch: from nothing, each round",
    )
    fine_tune_epochs: int = Field(5, ge=1, le=100_000, description="epochs of a potential that starts from another")
    fine_tune_learning_rate: float = Field(
        5e-4, gt=0, le=1e6, description="learning rate of a potential that starts from another"
    )
    max_force: float = Field(
        50.0, gt=0, le=1e6, description="eV/Å; frames with a larger force on any atom are left out"
    )
    flag_above: float = Field(
        0.05,
        ge=0,
        le=1e6,
        description="eV/Å; standard deviation of the force on an atom, over the committee, above which a frame of the "
        "round is flagged: the worst of each relaxation",
    )
    flag_most: int = Field(100, ge=0, le=1_000_000_000, description="frames that a round flags at most, the worst")
    model: NequIPConfig = Field(
        NequIPConfig(),
        description="the network of what starts from nothing; all elements mean those of the store",
    )
    training: PotentialTrainingConfig = Field(
        PotentialTrainingConfig(), description="how it is optimised; val_fraction has no part, formulas decide"
    )

    def network(self, elements: tuple[int, ...]) -> NequIPConfig:
        """The network of a potential that starts from nothing, in a store of these atomic numbers."""
        chosen = () if self.model.elements == NequIPConfig().elements else self.model.elements
        return self.model.model_copy(update={"elements": tuple(sorted({*chosen, *elements}))})

    def of_start(self, fresh: bool) -> PotentialTrainingConfig:
        """The optimisation settings of a potential that starts from nothing (`fresh`) or from another."""
        if fresh:
            return self.training
        changed = {"epochs": self.fine_tune_epochs, "learning_rate": self.fine_tune_learning_rate}
        return self.training.model_copy(update=changed)
