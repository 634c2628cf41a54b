"""potential.toml: settings of training and molecular dynamics with potentials."""

from __future__ import annotations

from pydantic import Field

from gnome_core.crystals.split import Holdout
from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.md_config import MDConfig
from gnome_core.settings import Section
from gnome_core.training.potential.config import PotentialTrainingConfig
from pipelines.rounds.toml import parse_settings, read_toml


class PotentialConfig(Section):
    """All settings of `gnome potential`."""

    seed: int = Field(0, ge=0, lt=2**32, description="same seed and frames, same potential")
    holdout: Holdout = Field(
        "none", description="holdout-v1: train on no frame of the withheld 15 % of chemical systems"
    )
    max_force: float = Field(
        50.0, gt=0, le=1e6, description="eV/Å; frames with a larger force on any atom are left out"
    )
    model: NequIPConfig = Field(
        NequIPConfig(), description="the network; without `elements` it gets those of the frames"
    )
    training: PotentialTrainingConfig = Field(PotentialTrainingConfig(), description="how it is optimised")
    md: MDConfig = Field(MDConfig(), description="molecular dynamics")

    def network(self, elements: tuple[int, ...], levels: int = 1) -> NequIPConfig:
        """The network for frames of these elements and so many levels of theory."""
        given = self.model.model_fields_set
        found = {"elements": elements, "levels": levels}
        return self.model.model_copy(update={name: value for name, value in found.items() if name not in given})


def load_potential_config(path: str | None) -> PotentialConfig:
    """Read a potential.toml; the defaults without one. Raises UserError."""
    if path is None:
        return PotentialConfig()
    return parse_settings(PotentialConfig, read_toml(path, "gnome potential config"), path)
