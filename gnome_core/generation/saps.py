"""Symmetry-aware partial substitutions (SAPS): replace 1 to n - 1 of the n atoms of an ion, inequivalent choices only.

GNoME, Nature 624, 80 (2023), Methods. Site subsets are classified under the parent's space group acting on the atoms
themselves, so subsets within one orbit count too: A2B2X6 gives A2BB'X6. Replacing all n atoms is ionic substitution.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import Shard, batched, draw, parent_rng, parent_shards
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import MAX_MASKED_SITES, Recipe, expand_recipe, pack_mapping, recipe_batch
from gnome_core.generation.species import Scoring, SpeciesMode, species_model

# What a capped search may spend on a level: subsets looked at, and subsets x sites x operations. Ions of up to about 16
# sites stay within both, so their levels are complete before the cap.
MAX_SUBSETS = 40_000
MAX_LEVEL_WORK = 10_000_000
MAX_PAIRS = 30_000  # of sites, whose distances are held at once
_WORD = 48  # bits of a subset that a float64 dot product keeps exact


def site_permutations(crystal: Crystal, symprec: float = 0.1) -> np.ndarray:
    """(g, n) int: site that each space-group operation of the cell (pure translations included) carries site i to.

    symprec: Å. Raises ValueError when no symmetry is found or an operation carries no atom near a site.
    """
    import moyopy

    # It warns when a supercell breaks symmetry of its primitive cell; the operations it keeps are the ones we want.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist())
    try:
        operations = moyopy.MoyoDataset(cell, symprec=symprec).operations
    except Exception as error:  # moyopy raises a plain exception
        raise ValueError(f"moyopy finds no symmetry at symprec {symprec}: {error}") from error
    rotations = np.array(operations.rotations, float)
    translations = np.array(operations.translations, float)
    images = np.einsum("gij,nj->gni", rotations, crystal.frac_coords) + translations[:, None, :]
    permutations = np.empty(images.shape[:2], np.int64)
    other = crystal.numbers[:, None] != crystal.numbers
    chunk = max(1, MAX_PAIRS // crystal.n_sites**2)
    for start in range(0, len(images), chunk):
        delta = images[start : start + chunk, :, None, :] - crystal.frac_coords
        delta -= np.round(delta)
        distance = np.square(delta @ crystal.lattice).sum(axis=-1)
        distance[:, other] = np.inf
        permutations[start : start + chunk] = distance.argmin(axis=-1)
    if (np.sort(permutations, axis=1) != np.arange(crystal.n_sites)).any():
        raise ValueError(f"an operation found at symprec {symprec} does not permute the sites")
    return permutations


@dataclass(frozen=True, eq=False)
class SubsetClasses:
    """Representatives of the classes of k-subsets of n sites.

    subsets: (c, n) bool, the smallest of each class. stabilisers: (c,) int, operations that leave it as it is.
    Ordered by stabiliser, largest first, then by subset.
    """

    subsets: np.ndarray
    stabilisers: np.ndarray


def subset_classes(permutations: np.ndarray, max_per_level: int | None = None) -> list[SubsetClasses]:
    """The classes of site subsets of size 1..n under a permutation group, at most `max_per_level` of each size.

    permutations: (g, n) int, all elements of the group acting on n sites. Without a cap the counts are Burnside's.
    Level k + 1 grows from level k by one site; the levels above n/2 are the complements of those below. With a cap, a
    level too wide for `MAX_SUBSETS` or `MAX_LEVEL_WORK` goes on with its most symmetric classes.
    """
    n = permutations.shape[1]
    group, repeats = np.unique(permutations, axis=0, return_counts=True)
    kernel = int(repeats[0])  # operations that act alike on these sites, equally many for each action
    frontier = None
    if max_per_level is not None:
        frontier = max(max_per_level, min(MAX_SUBSETS // n, MAX_LEVEL_WORK // (n * n * len(group))))
    levels: dict[int, SubsetClasses] = {}
    current = np.zeros((1, n), bool)
    for size in range(1, n // 2 + 1):
        base, site = np.nonzero(~current)
        grown = current[base]
        grown[np.arange(len(grown)), site] = True
        _, first = np.unique(np.packbits(grown, axis=1).view(f"V{-(-n // 8)}"), return_index=True)
        found = _classify(grown[first], group, kernel)
        current = found.subsets[:frontier]
        levels[size] = found
        if n - size != size:
            levels[n - size] = _classify(~found.subsets[:max_per_level], group, kernel)
    levels[n] = SubsetClasses(np.ones((1, n), bool), np.array([len(permutations)]))
    return [
        SubsetClasses(levels[k].subsets[:max_per_level], levels[k].stabilisers[:max_per_level]) for k in range(1, n + 1)
    ]


def _classify(subsets: np.ndarray, group: np.ndarray, kernel: int) -> SubsetClasses:
    """One representative of each class among the subsets (m, n)."""
    n = subsets.shape[1]
    # Bit of a site's image, in words small enough for exact float64 sums: all images of all subsets by matrix product.
    words = range(0, n, _WORD)
    weights = [np.where(group // _WORD == w // _WORD, 2.0 ** (group % _WORD), 0.0).T for w in words]
    chunk = max(1, 1_000_000 // len(group))
    keys, stabilisers = [], []
    for start in range(0, len(subsets), chunk):
        part = subsets[start : start + chunk].astype(float)
        least, smallest = [], np.ones((len(part), len(group)), bool)
        for weight in weights:
            image = np.where(smallest, part @ weight, np.inf)
            least.append(image.min(axis=1))
            smallest &= image == least[-1][:, None]
        keys.append(np.stack(least, axis=1))
        # The operations reaching the smallest image form a coset of the stabiliser, so they are as many.
        stabilisers.append(smallest.sum(axis=1))
    keys, first = np.unique(np.concatenate(keys), axis=0, return_index=True)
    stabiliser = np.concatenate(stabilisers)[first]
    bits = [(keys[:, w].astype(np.int64)[:, None] >> np.arange(_WORD)) & 1 for w in range(len(words))]
    representatives = np.concatenate(bits, axis=1)[:, :n].astype(bool)
    order = np.argsort(-stabiliser, kind="stable")
    return SubsetClasses(representatives[order], stabiliser[order] * kernel)


class SapsGenerator:
    """Replace part of the sites of one ion of a parent by one other element (entry point "saps")."""

    name = "saps"
    code = 2

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
            skipped, parts, n_cut = self._of_parent(row, shard, parents, config, allowed)
            if skipped:
                counts[skipped] += 1
                continue
            counts["parents"] += 1
            counts["recipes_cut"] += n_cut
            for part in parts:
                counts["recipes"] += part.num_rows
                yield part

    def _of_parent(self, row, shard, parents, config, allowed) -> tuple[str | None, list[pa.RecordBatch], int]:
        crystal, ions = parents.crystals[row], parents.species(row)
        if len(ions) > config.max_elements:
            return "parents_too_many_elements", [], 0
        if crystal.n_sites > min(config.max_sites, MAX_MASKED_SITES):
            return "parents_too_many_sites", [], 0
        if not {z for z, _ in ions} <= set(allowed):
            return "parents_with_other_elements", [], 0  # part of every ion stays
        model = species_model(config.species, config.scoring)
        columns = [column for z, q in ions if (column := model.nearest(z, q)) is not None]
        if len(columns) < len(ions):
            return "parents_without_species", [], 0
        try:
            permutations = site_permutations(crystal, config.symprec)
        except ValueError:
            return "parents_without_symmetry", [], 0

        excess = int(parents.oxidation[row].astype(int).sum())
        exchanges, masks, chosen, weights = [], [np.zeros((0, MAX_MASKED_SITES // 8), np.uint8)], [], []
        for column, (old, charge) in zip(columns, ions, strict=True):
            sites = np.flatnonzero(crystal.numbers == old)
            if len(sites) < 2:
                continue
            local = np.searchsorted(sites, permutations[:, sites])
            classes = _subsets(local.tobytes(), len(sites), config.max_per_level)
            replaced = np.concatenate([np.full(len(level), size, int) for size, level in enumerate(classes, 1)])
            subsets = np.zeros((len(replaced), MAX_MASKED_SITES), bool)
            subsets[:, sites] = np.concatenate(classes)
            packed = np.packbits(subsets, axis=1, bitorder="little")
            first = sum(map(len, masks))
            masks.append(packed)
            crowded = len(ions) == config.max_elements
            for new, (log_prob, charges) in _targets(
                config.species, config.scoring, column, config.threshold, allowed
            ).items():
                if new == old or (crowded and new not in crystal.numbers):
                    continue
                subset = np.arange(first, first + len(replaced))
                if config.saps_charge_balance:
                    change = np.array(sorted(charges)) - charge
                    subset = subset[(excess + replaced[:, None] * change == 0).any(axis=1)]
                if n := len(subset):
                    exchanges.append((old, new, n))
                    chosen.append(subset)
                    # The site choices of one ion and element share its probability.
                    weights.append(np.full(n, log_prob - np.log(n)))
        if not exchanges:
            return None, [], 0
        # Of some thousand choices a few dozen may be wanted: these alone become recipes.
        old, new, n = np.array(exchanges).T
        exchange, subset = np.repeat(np.arange(len(n)), n), np.concatenate(chosen)
        total, limit = len(subset), config.max_recipes_per_parent
        if limit is not None and total > limit:
            keep = draw(np.concatenate(weights), limit, parent_rng(shard, parents.ids[row]))
            exchange, subset = exchange[keep], subset[keep]
        mapping = pack_mapping(old[exchange, None], new[exchange, None])
        return None, [recipe_batch(row, self.code, mapping, np.concatenate(masks)[subset])], total - len(mapping)


@lru_cache(maxsize=1_000)
def _subsets(permutations: bytes, n: int, max_per_level: int) -> list[np.ndarray]:
    """Subsets (c, n) of 1 to n - 1 sites, by size: crystals of one prototype have the same."""
    group = np.frombuffer(permutations, np.int64).reshape(-1, n)
    return [level.subsets for level in subset_classes(group, max_per_level)[:-1]]


@lru_cache(maxsize=1_000)
def _targets(
    species: SpeciesMode, scoring: Scoring, column: int, threshold: float, allowed: tuple[int, ...]
) -> dict[int, tuple[float, set[int]]]:
    """Elements that may replace the ion: atomic number -> (largest log probability, charges that pass)."""
    model = species_model(species, scoring)
    log_prob = model.log_prob[:, column]
    found: dict[int, tuple[float, set[int]]] = {}
    for row in np.flatnonzero((log_prob > np.log(threshold)) & np.isin(model.numbers, allowed)):
        z = int(model.numbers[row])
        best, charges = found.get(z, (-np.inf, set()))
        found[z] = (max(best, float(log_prob[row])), charges | {int(model.charges[row])})
    return found
