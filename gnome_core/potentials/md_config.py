"""Settings of molecular dynamics: the [md] table of potential.toml. Loads no jax."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gnome_core.settings import Section


class MDConfig(Section):
    """One run. The defaults are the paper's (Nature 624, 80, 2023, Methods): NVT at 1,000 K after a ramp from 300 K."""

    ensemble: Literal["nvt", "nve"] = Field("nvt", description="nvt: Nosé-Hoover chains; nve: constant energy")
    temperature: float = Field(1000.0, gt=0, le=100_000, description="K")
    start_temperature: float = Field(
        300.0, gt=0, le=100_000, description="K, of the first velocities and the start of the ramp"
    )
    timestep: float = Field(2.0, gt=0, le=100, description="fs")
    ramp: float = Field(
        5.0, ge=0, le=1e6, description="ps in which the thermostat goes from start to final temperature"
    )
    duration: float = Field(45.0, gt=0, le=1e6, description="ps after the ramp")
    damping: float = Field(40.0, gt=0, le=1e6, description="steps: the thermostat's period")
    save_every: int = Field(10, ge=1, le=1_000_000, description="steps between frames of the trajectory")
    checkpoint_every: float = Field(1.0, gt=0, le=1e6, description="ps between checkpoints")
    min_length: float = Field(0.0, ge=0, le=200, description="Å; the cell is repeated until its heights reach it")
    skin: float = Field(
        1.0, gt=0, le=10, description="Å beyond the cutoff; neighbours are searched anew after half of it"
    )

    @property
    def n_steps(self) -> int:
        """Steps in all, ramp included; a multiple of `save_every`."""
        steps = round((self.ramp + self.duration) * 1000 / self.timestep)
        return max(1, round(steps / self.save_every)) * self.save_every
