"""How cheap predictions spare dear ones: the [scoring.cascade] table of round.toml. Loads no jax."""

from __future__ import annotations

from pydantic import Field

from gnome_core.settings import Section


class CascadeConfig(Section):
    """Margins of a cascade: larger ones lose fewer candidates and cost more (benchmarks/filter.py measures both)."""

    enabled: bool = Field(True, description="false: every candidate gets all members at 20 volumes")
    composition_margin: float | None = Field(
        None,
        le=1e6,
        ge=0,
        description="eV/atom above selection.threshold where the compositional ensemble's energy, a bound for all "
        "structures of a formula, ends a candidate; empty = no such bound",
    )
    pilot_margin: float | None = Field(
        0.1,
        le=1e6,
        ge=0,
        description="eV/atom above selection.threshold where one member's energy of one structure ends the others of "
        "its composition; empty = every structure is looked at",
    )
    first_margin: float = Field(
        0.06,
        ge=0,
        le=1e6,
        description="eV/atom above selection.threshold where one member at one volume ends a candidate",
    )
    second_looks: int = Field(
        20_000,
        ge=1,
        le=1_000_000_000,
        description="about how many of what is left, the lowest, a few members look at: some 40 a refined one; more "
        "tell no candidate from another that is chosen",
    )
    second_members: int = Field(2, ge=2, le=1000, description="members that look at these, at one volume")
    second_margin: float = Field(
        0.02, ge=0, le=1e6, description="eV/atom above selection.threshold where their median ends a candidate"
    )
    refine: int = Field(
        500,
        ge=1,
        le=1_000_000_000,
        description="lowest candidates of what is left (by selection.kappa) that get all members at 20 volumes: some 5 "
        "a choice. Larger budgets add what fills them, selection.explore its share of the most uncertain",
    )
