"""Ionic substitution: every replacement of a parent's ions whose probability exceeds a threshold.

Model: Hautier et al., Inorg. Chem. 50, 656 (2011), with the changes of GNoME (Nature 624, 80, 2023, Methods); see
`species.species_model`. Search: branch and bound over the ions in log space, output-sensitive.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER
from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import Shard, batched, draw, parent_rng, parent_shards
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import Recipe, expand_recipe, pack_mapping, recipe_batch
from gnome_core.generation.species import Scoring, SpeciesMode, species_model


def search(ranked: np.ndarray, order: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """All choices of one species per ion, all distinct, whose summed log probability exceeds log(threshold).

    ranked: (s, k) float64, log p(new species | ion) of each of k ions, descending. order: (s, k) int, the species.
    Returns species (m, k) and summed log probabilities (m,).
    """
    n_ions = ranked.shape[1]
    # A product equal to the threshold is out, whatever the last bit of its sum of logarithms.
    bound = math.log(threshold) * (1 - 1e-12)
    best = ranked[0]
    # Ions with few choices first keep the tree narrow.
    sequence = np.argsort((ranked > bound - best.sum() + best).sum(axis=0), kind="stable")
    total = np.full(1, best.sum())  # of the chosen species, the best choices standing in for the ions still open
    chosen: list[np.ndarray] = []
    for ion in sequence:
        column = ranked[:, ion]
        # Choices are ranked, so those that pass are a prefix: its length by bisection, nothing else is touched.
        lengths = np.searchsorted(-column, total - best[ion] - bound, side="left")
        base = np.repeat(np.arange(len(lengths)), lengths)
        rank = np.arange(len(base)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        new = order[rank, ion]
        distinct = np.ones(len(base), bool)
        chosen = [species[base] for species in chosen]
        for species in chosen:
            distinct &= species != new
        chosen = [species[distinct] for species in [*chosen, new]]
        total = total[base[distinct]] + (column[rank[distinct]] - best[ion])
    rows = np.empty((len(total), n_ions), order.dtype)
    for ion, species in zip(sequence, chosen, strict=True):
        rows[:, ion] = species
    return rows, total


@lru_cache(maxsize=64)
def _ranked(species: SpeciesMode, scoring: Scoring, allowed: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """For every old species (column): the allowed new species (s, s_old) and their log p, most probable first."""
    model = species_model(species, scoring)
    usable = np.flatnonzero(model.numbers <= MAX_ATOMIC_NUMBER if allowed is None else np.isin(model.numbers, allowed))
    order = usable[np.argsort(-model.log_prob[usable], axis=0, kind="stable")]
    return order, np.take_along_axis(model.log_prob, order, axis=0)


def species_substitutions(
    ions: tuple[tuple[int, int], ...],
    threshold: float = 0.001,
    species: SpeciesMode = "extended",
    scoring: Scoring = "gnome",
    allowed: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Species that may replace the ions ((atomic number, charge), ...), the unchanged list included.

    allowed: atomic numbers that the new list may hold; applied inside the search. None = all up to Pu.
    Returns rows (m, k) of `species_model(species, scoring)` and log probabilities (m,), or None when the model has no
    species for one of the ions.
    """
    model = species_model(species, scoring)
    columns = [column for z, q in ions if (column := model.nearest(z, q)) is not None]
    if len(columns) < len(ions):
        return None
    order, ranked = _ranked(species, scoring, allowed)
    if not len(order):
        return np.zeros((0, len(ions)), np.int64), np.zeros(0)
    return search(ranked[:, columns], order[:, columns], threshold)


@lru_cache(maxsize=1 << 14)
def element_substitutions(
    ions: tuple[tuple[int, int], ...],
    threshold: float,
    species: SpeciesMode,
    scoring: Scoring,
    allowed: tuple[int, ...] | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Distinct element replacements of the ions, most probable first, the identity left out.

    Charges are forgotten: of several species lists with the same elements the most probable counts.
    Returns new atomic numbers (m, k) uint8 and log probabilities (m,), or None as `species_substitutions`.
    """
    found = species_substitutions(ions, threshold, species, scoring, allowed)
    if found is None:
        return None
    rows, log_prob = found
    new = species_model(species, scoring).numbers[rows].astype(np.int64)
    weights = 128 ** np.arange(len(ions), dtype=np.int64)
    code = new @ weights
    order = np.lexsort((code, -log_prob))
    _, first = np.unique(code[order], return_index=True)
    order = order[np.sort(first)]
    order = order[code[order] != np.array([z for z, _ in ions]) @ weights]
    return new[order].astype(np.uint8), log_prob[order]


class SubstitutionGenerator:
    """Replace all sites of one or more ions of a parent (entry point "substitution")."""

    name = "substitution"
    code = 1

    def shards(self, parents: ParentTable, config: GenerationConfig) -> list[Shard]:
        return parent_shards(self.name, len(parents), config)

    def recipes(
        self, shard: Shard, parents: ParentTable, config: GenerationConfig, counts: Counter[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        yield from batched(self._by_parent(shard, parents, config, Counter() if counts is None else counts))

    def expand(self, recipes: Sequence[Recipe], parents: ParentTable) -> list[Crystal | None]:
        return [expand_recipe(recipe, parents) for recipe in recipes]

    def _by_parent(self, shard, parents, config, counts) -> Iterator[pa.RecordBatch]:
        allowed = config.allowed_numbers(parents.elements)
        for row in range(shard.start, shard.stop):
            ions = parents.species(row)
            if len(ions) > config.max_elements:
                counts["parents_too_many_elements"] += 1
                continue
            if parents.crystals[row].n_sites > config.max_sites:
                counts["parents_too_many_sites"] += 1
                continue
            found = element_substitutions(ions, config.threshold, config.species, config.scoring, allowed)
            if found is None:
                counts["parents_without_species"] += 1
                continue
            counts["parents"] += 1
            new, log_prob = found
            if config.max_recipes_per_parent is not None and len(new) > config.max_recipes_per_parent:
                keep = draw(log_prob, config.max_recipes_per_parent, parent_rng(shard, parents.ids[row]))
                counts["recipes_cut"] += len(new) - len(keep)
                new = new[keep]
            counts["recipes"] += len(new)
            if len(new):
                yield recipe_batch(row, self.code, pack_mapping(np.array([z for z, _ in ions]), new))
