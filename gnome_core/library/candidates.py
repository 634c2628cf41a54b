"""Candidates: known crystals with their ions exchanged, and random structures of formulas."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, NUMBERS, SYMBOLS
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.errors import GnomeError
from gnome_core.generation.config import GenerationConfig, RandomSearchConfig
from gnome_core.generation.generators import Shard, get_generator
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import recipe_rows
from gnome_core.library.kinds import Crystals, Kind, One, give, take

SKIPPED = "parents_"  # begins the names under which generators count parents that they pass over


def substitutions(
    parents: Crystals,
    *,
    elements: Sequence[str] | None = None,
    threshold: float = 0.001,
    per_parent: int | None = None,
    seed: int = 0,
) -> list[One]:
    """Every exchange of a parent's ions by others whose probability exceeds `threshold` (Hautier et al., Inorg. Chem.
    50, 656 (2011), with GNoME's changes), cells rescaled by atomic volumes: of the parents' kind, in their order.

    elements: symbols that may take the place of others; None = all up to Pu. per_parent: draw at most so many of a
    parent's, by probability with `seed`; None = all. Parents and candidates that cannot be used are left out with a
    warning that counts them by reason. Raises GnomeError for unknown symbols, and what `take` raises.
    """
    config = GenerationConfig(threshold=threshold, max_recipes_per_parent=per_parent, seed=seed)
    return _exchanged("substitution", parents, elements, config)


def saps(
    parents: Crystals,
    *,
    elements: Sequence[str] | None = None,
    threshold: float = 0.001,
    charge_balance: bool = False,
    per_parent: int | None = None,
    seed: int = 0,
) -> list[One]:
    """Symmetry-aware partial substitutions (GNoME, Nature 624, 80 (2023)): one element on a part of one ion's sites,
    one choice of sites of each symmetry class: of the parents' kind, in their order.

    charge_balance: neutral candidates only. elements, threshold, per_parent and seed, what is left out and what is
    raised: as of `substitutions`.
    """
    config = GenerationConfig(
        threshold=threshold, max_recipes_per_parent=per_parent, saps_charge_balance=charge_balance, seed=seed
    )
    return _exchanged("saps", parents, elements, config)


def random_structures(
    formulas: str | Iterable[str],
    n: int = 10,
    *,
    volume_factors: tuple[float, float] = (0.4, 1.2),
    max_formula_units: int = 4,
    max_sites: int = 24,
    max_operations: int = 4,
    seed: int = 0,
    kind: Kind = "structure",
) -> list[One]:
    """n random structures of each of the formulas ("Li15Si4"), as AIRSS makes them: symmetric cells, no atoms too near.

    volume_factors: cell volumes, spread evenly between these multiples of the sum of atomic volumes. max_sites: atoms
    in the primitive cell, at most 64. max_formula_units: in it, drawn from 1 to this. max_operations: of the point
    groups drawn. seed: of all draws. kind: what they are given as. Equal arguments give equal structures. Those whose
    atoms find no room (some 9 %) are left out with a warning.

    Raises GnomeError for what is no formula, or too large for `max_sites`.
    """
    from gnome_core.compositions.packed import parse_formulas
    from gnome_core.generation.random_search import make_crystals, random_recipes

    config = RandomSearchConfig(
        structures=n,
        volume_factors=volume_factors,
        max_formula_units=max_formula_units,
        max_sites=max_sites,
        max_operations=max_operations,
    )
    wanted = [formulas] if isinstance(formulas, str) else list(formulas)
    try:
        packed = parse_formulas(wanted)
    except ValueError as error:
        raise GnomeError(str(error)) from None
    counts: Counter[str] = Counter()
    recipes = random_recipes(packed, config, seed, counts)
    if too_large := counts["compositions_too_large"]:
        raise GnomeError(
            f"{too_large} of {', '.join(wanted)} have more than {max_sites} atoms; raise max_sites (to 64)"
        )
    return [give(crystal, kind) for _, crystal in _usable(enumerate(make_crystals(recipe_rows(recipes))))]


def _exchanged(name: str, parents: Crystals, elements: Sequence[str] | None, config: GenerationConfig) -> list[One]:
    given, generator, found, skipped = take(parents), get_generator(name), [], []
    wanted = _numbers(elements)
    for row, (id_, crystal) in enumerate(zip(given.ids, given.crystals, strict=True)):
        # A table of its own: what may come into one parent is not what another holds.
        table, counts = ParentTable.from_crystals([id_], [crystal]), Counter[str]()
        own = config.model_copy(update={"elements": tuple(SYMBOLS[z] for z in sorted(wanted | set(table.elements)))})
        for batch in generator.recipes(Shard(name, 0, 1, config.seed), table, own, counts):
            recipes = [recipe for recipe in recipe_rows(batch) if wanted >= set(recipe.replacements.values())]
            found += [(row, candidate) for candidate in generator.expand(recipes, table)]
        skipped += [f"{id_} ({reason.removeprefix(SKIPPED)})" for reason in counts if reason.startswith(SKIPPED)]
    if skipped:
        warnings.warn(f"{len(skipped)} parents without candidates, such as {', '.join(skipped[:5])}", stacklevel=3)
    return [give(candidate, given.kinds[row]) for row, candidate in _usable(found)]


def _numbers(elements: Sequence[str] | None) -> set[int]:
    if elements is None:
        return set(range(1, MAX_ATOMIC_NUMBER + 1))
    symbols = list(elements)
    if isinstance(elements, str) or not set(symbols) <= NUMBERS.keys():
        raise GnomeError(f"elements: {elements!r} is no list of symbols; write them as in ['Li', 'S']")
    return {NUMBERS[symbol] for symbol in symbols}


def _usable(found: Iterable[tuple[int, Crystal | None]]) -> Iterator[tuple[int, Crystal]]:
    """Those that make a crystal; the others are counted by reason in one warning."""
    reasons: Counter[str] = Counter()
    for row, crystal in found:
        if reason := invalid_reason(crystal):
            reasons[reason] += 1
        elif crystal is not None:
            yield row, crystal
    if reasons:
        said = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
        warnings.warn(f"{reasons.total()} candidates left out: {said}", stacklevel=4)
