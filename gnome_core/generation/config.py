"""What a round generates: the [generation] table of round.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gnome_core.crystals.crystal import MAX_ATOMIC_NUMBER
from gnome_core.generation.species import Scoring, SpeciesMode

AtomicNumber = Annotated[int, Field(ge=1, le=MAX_ATOMIC_NUMBER)]


class GenerationConfig(BaseModel):
    """Settings of candidate generation; defaults are GNoME's where the paper gives a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generators: tuple[str, ...] = Field(("substitution", "saps"), description="entry points of group gnome.generators")
    threshold: float = Field(0.001, gt=0, lt=1, description="smallest substitution probability kept")
    species: SpeciesMode = Field("extended", description="table | extended | elements: which ions may be exchanged")
    scoring: Scoring = Field("gnome", description="gnome | original: the substitution probability")
    elements: tuple[str, ...] | None = Field(
        None, description="elements that candidates may hold; empty = those of the parents"
    )
    max_elements: int = Field(6, ge=1, le=6, description="distinct elements in a parent or candidate")
    max_sites: int = Field(128, ge=1, le=128, description="larger parents are skipped and counted")
    max_per_level: int | None = Field(32, ge=1, description="SAPS: site subsets kept per number of replaced atoms")
    saps_charge_balance: bool = Field(False, description="SAPS: keep only charge-neutral candidates")
    oxidation_rule: bool = Field(
        False,
        description="only compositions that can be neutral by the relaxed oxidation-state rule; intermetallics can",
    )
    symprec: float = Field(0.1, gt=0, description="Å, tolerance of the symmetry search")
    max_recipes_per_parent: int | None = Field(
        None, ge=1, description="per generator; drawn by substitution probability with the seed; empty = all"
    )
    parents_per_shard: int = Field(256, ge=1, description="parents that one worker task takes")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of every draw")

    @model_validator(mode="after")
    def _charges_known(self) -> GenerationConfig:
        if self.saps_charge_balance and self.species == "elements":
            raise ValueError('saps_charge_balance needs charges: set species to "table" or "extended"')
        return self

    def allowed_numbers(self, present: list[int]) -> tuple[int, ...]:
        """Atomic numbers that candidates may hold, sorted: `elements`, or those `present` in the parents."""
        if self.elements is None:
            return tuple(sorted(present))
        from gnome_core.crystals.formulas import NUMBERS

        unknown = [e for e in self.elements if e not in NUMBERS]
        if unknown:
            raise ValueError(f"generation.elements: no such element {', '.join(unknown)}; write symbols such as Li")
        return tuple(sorted(NUMBERS[e] for e in self.elements))
