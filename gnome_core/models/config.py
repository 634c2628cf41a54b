"""What shapes the networks: the [model] table of round.toml. Loads no jax, so that settings are read at once."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from gnome_core.graphs.featurize import CUTOFF


class StructuralConfig(BaseModel):
    """Shape of a StructuralGNN. `PAPER` holds the published one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(128, ge=1, description="features of edges, nodes and the global state")
    steps: int = Field(3, ge=1, le=8, description="message-passing steps")
    cutoff: float = Field(CUTOFF, gt=0, description="Å; graphs must be built with the same")
    n_basis: int = Field(30, ge=2, description="Gaussian functions of an edge length")
    basis_width: float = Field(0.5, gt=0, description="Å")
    trainable_swish: bool = Field(False, description="one trainable slope per feature")
    element_properties: bool = Field(True, description="periodic-table properties beside one-hot elements")
    residual: bool = Field(True, description="each update is added to the state it updates")


class CompositionalConfig(BaseModel):
    """Shape of a CompositionalGNN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(128, ge=1, description="features of edges, nodes and the global state")
    steps: int = Field(3, ge=1, le=8, description="message-passing steps")
    n_basis: int = Field(20, ge=2, description="Gaussian functions of an element's atomic fraction")
    trainable_swish: bool = Field(False, description="one trainable slope per feature")
    element_properties: bool = Field(True, description="periodic-table properties beside one-hot elements")
    residual: bool = Field(True, description="each update is added to the state it updates")

    cutoff: ClassVar[float] = CUTOFF  # of no effect: edges of compositions have no length


PAPER = StructuralConfig(width=256, trainable_swish=True, residual=False, element_properties=False)
