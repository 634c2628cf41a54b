"""When relaxations end: in the [evaluation] table of round.toml. Loads no jax, so that settings are read at once."""

from __future__ import annotations

from pydantic import Field

from gnome_core.settings import Section


class RelaxConfig(Section):
    """When a relaxation ends."""

    fmax: float = Field(
        0.05, gt=0, le=1e12, description="largest force at the end, eV/Å; the cell's share is virial / atoms"
    )
    max_steps: int = Field(
        300, gt=0, le=1_000_000, description="evaluations after which a crystal counts as not converged"
    )
    max_volume_ratio: float = Field(
        3.0, gt=1, le=1e6, description="a crystal whose volume grows or shrinks by more than this factor has exploded"
    )
