"""The trained ensembles that come with the package: where a first round's members start, and what predicts a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

Framework = Literal["structural", "compositional"]


def pretrained_members(framework: Framework) -> list[Path]:
    """The .npz files of the shipped members, in member order (MODEL_CARD.md: what they saw)."""
    return sorted(Path(str(resources.files("gnome_core.data") / framework)).glob("member-*.npz"))
