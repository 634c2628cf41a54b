"""What a round generates: the [generation] table of round.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from gnome_core.generation.oxidation import OxidationRule
from gnome_core.generation.species import Scoring, SpeciesMode
from gnome_core.settings import Section

VolumeFactor = Annotated[float, Field(gt=0, le=100)]
# Of candidates that replace ions in known crystals. The paper gives a rule for the compositional framework alone; this
# is ours, narrower, since SAPS without charge balance exchanges anions for cations freely.
SUBSTITUTION_RULE: OxidationRule = "ordered"

FILE = "file:"  # begins a generator's name that ends in that of a file of candidates
SHIPPED = "shipped"  # the list of known compositions that comes with the package
SNAPSHOT = "snapshot"


def check_known(known: object) -> object:
    """The value of `known`, or a ValueError that says which there can be."""
    if known == SNAPSHOT:
        return known
    names = list(known) if isinstance(known, list | tuple) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f'must be "{SNAPSHOT}", or a list such as ["{SHIPPED}", "icsd.csv"]')
    bad = [name for name in names if name != SHIPPED and not name.lower().endswith((".csv", ".parquet"))]
    if bad:
        raise ValueError(f'{bad[0]!r} is neither "{SHIPPED}" nor the name of a .csv or .parquet file')
    return known


class CompositionConfig(Section):
    """Which compositions are searched with random structures."""

    formulas: tuple[str, ...] = Field((), description="these compositions; empty = all that the next keys allow")
    max_counts: tuple[Annotated[int, Field(ge=0, le=64)], ...] = Field(
        (16, 8, 4),
        max_length=5,
        description="largest count of one element in binaries, ternaries, quaternaries, ...; 0 leaves them out",
    )
    max_atoms: int = Field(20, ge=2, le=255, description="atoms in the formula unit")
    rule: OxidationRule = Field(
        "relaxed", description="strict | ordered | relaxed | literal: which compositions can be neutral"
    )

    @field_validator("formulas")
    @classmethod
    def _readable(cls, formulas: tuple[str, ...]) -> tuple[str, ...]:
        if formulas:  # else nothing loads pymatgen
            from gnome_core.compositions.packed import given_compositions

            given_compositions(formulas)
        return formulas


class RandomSearchConfig(Section):
    """Random structures of a composition, as AIRSS makes them."""

    structures: int = Field(100, ge=1, le=1_000_000, description="random structures of each composition")
    volume_factors: tuple[VolumeFactor, VolumeFactor] = Field(
        (0.4, 1.2), description="cell volumes are spread evenly between these multiples of the sum of atomic volumes"
    )
    max_formula_units: int = Field(
        4, ge=1, le=64, description="formula units in the primitive cell, drawn from 1 to this"
    )
    max_sites: int = Field(24, ge=1, le=64, description="atoms in the primitive cell; larger formula units are skipped")
    max_operations: int = Field(
        4, ge=1, le=48, description="space groups are drawn among those of at most so many point operations; 48 = all"
    )

    @model_validator(mode="after")
    def _ascending(self) -> RandomSearchConfig:
        if self.volume_factors[0] > self.volume_factors[1]:
            raise ValueError("volume_factors must be (smallest, largest)")
        return self


class GenerationConfig(Section):
    """Settings of candidate generation; defaults are GNoME's where the paper gives a value."""

    generators: tuple[str, ...] = Field(
        ("substitution", "saps"),
        description="entry points of group gnome.generators; file:NAME = the crystals of a file or folder as they are",
    )
    threshold: float = Field(0.001, gt=0, lt=1, description="smallest substitution probability kept")
    species: SpeciesMode = Field("extended", description="table | extended | elements: which ions may be exchanged")
    scoring: Scoring = Field("gnome", description="gnome | original: the substitution probability")
    elements: tuple[str, ...] | None = Field(
        None, description="elements that candidates may hold; empty = those of the parents"
    )
    known: Annotated[Literal["snapshot"] | tuple[str, ...], BeforeValidator(check_known)] = Field(
        (SHIPPED,),
        max_length=12,
        description="lists of known compositions that are left out, beside those of the store: shipped = known to the "
        "Materials Project, OQMD or experiment; FILE.csv or FILE.parquet = its column formula. known = "
        f'"{SNAPSHOT}" leaves out none of them: for polymorphs',
    )
    max_elements: int = Field(6, ge=1, le=6, description="distinct elements in a parent or candidate")
    max_sites: int = Field(128, ge=1, le=128, description="larger parents are skipped and counted")
    max_per_level: int | None = Field(
        32, ge=1, le=1_000_000, description="SAPS: site subsets kept per number of replaced atoms"
    )
    saps_charge_balance: bool = Field(False, description="SAPS: keep only charge-neutral candidates")
    oxidation_rule: bool = Field(
        False,
        description="only compositions that can be neutral by the ordered oxidation-state rule (the relaxed one, but "
        "the most electronegative element is an anion if it can be); intermetallics can",
    )
    symprec: float = Field(0.1, gt=0, le=1, description="Å, tolerance of the symmetry search")
    max_recipes_per_parent: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="per generator; drawn by substitution probability with the seed; empty = all",
    )
    parents_per_shard: int = Field(256, ge=1, le=1_000_000, description="parents that one worker task takes")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of every draw")
    compositions: CompositionConfig = Field(CompositionConfig(), description="what random_search takes")
    random_search: RandomSearchConfig = Field(RandomSearchConfig(), description="random structures of a composition")

    @model_validator(mode="after")
    def _charges_known(self) -> GenerationConfig:
        if self.saps_charge_balance and self.species == "elements":
            raise ValueError('saps_charge_balance needs charges: set species to "table" or "extended"')
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Files of candidates."""
        return tuple(name.removeprefix(FILE) for name in self.generators if name.startswith(FILE))

    @property
    def known_lists(self) -> tuple[str, ...]:
        """SHIPPED and names of files."""
        return () if self.known == SNAPSHOT else tuple(self.known)

    def allowed_numbers(self, present: list[int]) -> tuple[int, ...]:
        """Atomic numbers that candidates may hold, sorted: `elements`, or those `present` in the parents."""
        if self.elements is None:
            return tuple(sorted(present))
        from gnome_core.compositions.formulas import NUMBERS

        unknown = [e for e in self.elements if e not in NUMBERS]
        if unknown:
            raise ValueError(f"generation.elements: no such element {', '.join(unknown)}; write symbols such as Li")
        return tuple(sorted(NUMBERS[e] for e in self.elements))
