"""Where trained members lie: those that come with the package, in which a first round's begin, and a folder's."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

from gnome_core.errors import GnomeError

Framework = Literal["structural", "compositional"]


def pretrained_members(framework: Framework) -> list[Path]:
    """The .npz files of the shipped members, in member order (MODEL_CARD.md: what they saw)."""
    return members_in(str(resources.files("gnome_core.data") / framework))


def members_in(folder: str | Path) -> list[Path]:
    """The .npz files of the members in a folder, in member order. Raises GnomeError where there are none."""
    found = sorted(Path(folder).glob("member-*.npz"))
    if not found:
        raise GnomeError(f"{folder} holds no member-*.npz; `gnome train FILE {folder}` makes them")
    return found
