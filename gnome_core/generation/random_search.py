"""Random structures of a composition: symmetric, no atoms too near, as AIRSS's buildcell makes them.

Pickard and Needs, J. Phys.: Condens. Matter 23, 053201 (2011); GNoME, Nature 624, 80 (2023), Methods: 100 of each
composition, at 0.4 to 1.2 times a volume from radii. A recipe holds the atoms of the primitive cell, the space group,
the volume factor and the seed. Expanding it draws a lattice and Wyckoff positions, pushes the atoms apart
(`packing.py`) and reduces the cell; a recipe gives the same crystal on every machine of one kind of processor.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from vesin import NeighborList

from gnome_core.compositions.packed import MAX_ELEMENTS
from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.config import GenerationConfig, RandomSearchConfig
from gnome_core.generation.enumeration import compositions, n_items
from gnome_core.generation.generators import BATCH_ROWS, Shard, batched
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import NO_PARENT, Recipe, recipe_batch
from gnome_core.generation.separations import Spheres, spheres
from gnome_core.generation.space_groups import N_GROUPS, operations, orbits, symmetric_lattice, tensor_averaging

if TYPE_CHECKING:
    from gnome_core.generation.packing import LooseCell

CODE = 3
ATTEMPTS = 4  # fresh starts of one recipe before it counts as impossible to pack
SYSTEMS_PER_SHARD = 64
LATTICE_DRAWS = 20
LONGEST_EDGE = 3.0  # a reduced cell's longest edge over its shortest
LEAST_FILLING = 0.4  # a reduced cell's volume over the product of its edges


def random_recipes(
    packed: np.ndarray, config: RandomSearchConfig, seed: int, counts: Counter[str] | None = None
) -> pa.RecordBatch:
    """`config.structures` recipes of each composition (n, 12), which depend on the composition and the seed alone.

    packed: as in `compositions.py`. counts collects the compositions taken, and those left out because their formula
    unit has more atoms than `config.max_sites`.
    """
    counts = Counter() if counts is None else counts
    n = config.structures
    factors = np.linspace(*config.volume_factors, n) if n > 1 else np.mean(config.volume_factors, keepdims=True)
    atoms, seeds, groups = [], [], []
    for row in packed:
        unit = int(row[MAX_ELEMENTS:].sum())
        if unit > config.max_sites:
            counts["compositions_too_large"] += 1
            continue
        counts["compositions_taken"] += 1
        rng = np.random.default_rng(_seed_of(seed, row))
        units = rng.integers(1, min(config.max_formula_units, config.max_sites // unit), n, endpoint=True)
        in_cell = np.repeat(row[None], n, axis=0)
        in_cell[:, MAX_ELEMENTS:] *= units[:, None].astype(np.uint8)
        atoms.append(in_cell)
        seeds.append(rng.integers(2**64, size=n, dtype=np.uint64))
        groups += [_draw_group(cell[MAX_ELEMENTS:], config.max_operations, rng) for cell in in_cell]
    counts["recipes"] += len(groups)
    if not atoms:
        return recipe_batch(NO_PARENT, CODE, np.zeros((0, 12), np.uint8))
    factor = np.tile(factors, len(atoms))
    return recipe_batch(NO_PARENT, CODE, np.vstack(atoms), None, np.concatenate(seeds), factor, np.array(groups))


def _seed_of(seed: int, row: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}|".encode() + row.tobytes(), digest_size=16).digest(), "little")


# Which Wyckoff positions hold the atoms of a cell


def _draw_group(counts: np.ndarray, max_operations: int, rng: np.random.Generator) -> int:
    """A space group that the counts fit: first how many point operations, then which group of so many."""
    by_order = fitting_groups(tuple(sorted(counts[counts > 0].tolist(), reverse=True)), max_operations)
    groups = by_order[rng.integers(len(by_order))]
    return groups[rng.integers(len(groups))]


@lru_cache(maxsize=1 << 14)
def fitting_groups(counts: tuple[int, ...], max_operations: int) -> tuple[tuple[int, ...], ...]:
    """Space groups of at most so many point operations in which atoms of these counts fit, by number of operations."""
    by_order: dict[int, list[int]] = {}
    for number in range(1, N_GROUPS + 1):
        order = len(operations(number)[0])
        if order <= max_operations and _fits(number, counts, _fixed_positions(number)):
            by_order.setdefault(order, []).append(number)
    return tuple(tuple(by_order[order]) for order in sorted(by_order))


@lru_cache(maxsize=N_GROUPS)
def _free_multiplicities(number: int) -> tuple[int, ...]:
    """Multiplicities of positions that any number of orbits can occupy, largest first."""
    return tuple(sorted({orbit.multiplicity for orbit in orbits(number) if orbit.freedom}, reverse=True))


@lru_cache(maxsize=N_GROUPS)
def _fixed_positions(number: int) -> tuple[tuple[int, int], ...]:
    """(multiplicity, positions that have it) of positions that one orbit fills."""
    return tuple(sorted(Counter(orbit.multiplicity for orbit in orbits(number) if not orbit.freedom).items()))


@lru_cache(maxsize=1 << 18)
def _fits(number: int, counts: tuple[int, ...], fixed: tuple[tuple[int, int], ...]) -> bool:
    """Whether orbits can add up to each of the counts (descending), with so many fixed positions left."""
    if not counts or counts[0] == 0 or _free_multiplicities(number)[-1] == 1:
        return True
    first, rest = counts[0], counts[1:]
    for multiplicity in _free_multiplicities(number):
        if multiplicity <= first and _fits(number, _descending(first - multiplicity, rest), fixed):
            return True
    return any(
        multiplicity <= first
        and left
        and _fits(number, _descending(first - multiplicity, rest), _less(fixed, multiplicity))
        for multiplicity, left in fixed
    )


def _descending(count: int, rest: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted((count, *rest), reverse=True))


def _less(fixed: tuple[tuple[int, int], ...], multiplicity: int) -> tuple[tuple[int, int], ...]:
    """The fixed positions left when one of this multiplicity is taken."""
    return tuple((m, left - (m == multiplicity)) for m, left in fixed)


def _draw_orbits(number: int, counts: Sequence[int], rng: np.random.Generator) -> list[list[int]]:
    """For each count, positions of the space group (indices into `orbits`) whose multiplicities add up to it."""
    positions, fixed, taken = orbits(number), _fixed_positions(number), set()
    left = list(counts)
    drawn: list[list[int]] = [[] for _ in counts]
    for element in range(len(left)):
        while left[element]:
            others = [n for other, n in enumerate(left) if other != element]
            options = []
            for index, orbit in enumerate(positions):
                m, pinned = orbit.multiplicity, orbit.freedom == 0
                if m > left[element] or index in taken:
                    continue
                if _fits(number, _descending(left[element] - m, tuple(others)), _less(fixed, m) if pinned else fixed):
                    options.append(index)
            index = options[rng.integers(len(options))]
            orbit = positions[index]
            if orbit.freedom == 0:
                taken.add(index)
                fixed = _less(fixed, orbit.multiplicity)
            drawn[element].append(index)
            left[element] -= orbit.multiplicity
    return drawn


# Cells


def make_crystals(recipes: Sequence[Recipe]) -> list[Crystal | None]:
    """The random structure of each recipe, or None where `ATTEMPTS` starts of it cannot be packed.

    Raises ValueError for a recipe whose atoms do not fit its space group.
    """
    from gnome_core.generation.packing import pack  # jax takes a second to load

    crystals: list[Crystal | None] = []
    for first in range(0, len(recipes), BATCH_ROWS):
        part = recipes[first : first + BATCH_ROWS]
        crystals += pack(
            len(part),
            lambda i, attempt, part=part: _loose_cell(part[i], attempt),
            lambda i, cell, part=part: _compact(part[i], cell),
            ATTEMPTS,
        )
    return crystals


def _loose_cell(recipe: Recipe, attempt: int) -> LooseCell:
    """Atoms at random points of random Wyckoff positions in a random lattice of the space group."""
    from gnome_core.generation.packing import LooseCell

    rng = np.random.default_rng([recipe.seed, attempt])
    model, counts = _spheres_of(recipe), list(recipe.atoms.values())
    drawn = _draw_orbits(recipe.space_group, counts, rng)
    chosen = [orbits(recipe.space_group)[index] for indices in drawn for index in indices]
    element_of_orbit = np.repeat(np.arange(len(counts)), [len(indices) for indices in drawn])
    orbit = np.repeat(np.arange(len(chosen)), [o.multiplicity for o in chosen])
    lattice, change = _draw_lattice(recipe.space_group, rng)
    separations = recipe.volume_factor ** (1 / 3) * model.separations
    return LooseCell(
        lattice * _volume(recipe) ** (1 / 3),
        change @ np.concatenate([o.rotations for o in chosen]) @ np.linalg.inv(change),
        np.concatenate([o.translations for o in chosen]) @ change.T,
        orbit,
        rng.random((len(chosen), 3)),
        separations[element_of_orbit][:, element_of_orbit[orbit]],
        np.kron(change, change) @ tensor_averaging(recipe.space_group) @ np.linalg.inv(np.kron(change, change)),
    )


def _spheres_of(recipe: Recipe) -> Spheres:
    divisor = math.gcd(*recipe.atoms.values())
    return spheres(tuple((z, n // divisor) for z, n in recipe.atoms.items()))


def _volume(recipe: Recipe) -> float:
    """Å^3 of the recipe's cell."""
    return recipe.volume_factor * float(_spheres_of(recipe).volumes @ list(recipe.atoms.values()))


def _draw_lattice(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A lattice of volume 1 with the group's symmetry, neither flat nor needle-like, and the change of its coordinates.

    It is Niggli-reduced: change (3, 3) takes fractional coordinates in the group's setting to coordinates in it.
    """
    import moyopy

    for _ in range(LATTICE_DRAWS):
        drawn = rng.uniform(0.6, 1.4, (3, 1)) * (np.eye(3) + rng.uniform(-0.5, 0.5, (3, 3)))
        basis, transformation = moyopy.niggli_reduce(symmetric_lattice(number, drawn).tolist())
        lattice = np.array(basis)
        edges, volume = np.linalg.norm(lattice, axis=1), abs(np.linalg.det(lattice))
        if edges.max() <= LONGEST_EDGE * edges.min() and volume >= LEAST_FILLING * edges.prod():
            break
    return lattice / volume ** (1 / 3), np.linalg.inv(np.array(transformation, float))


def _compact(recipe: Recipe, cell: LooseCell) -> Crystal | None:
    """The packed cell, Niggli-reduced, with its exact volume; None should any two atoms be too near after all."""
    import moyopy

    numbers = np.repeat(list(recipe.atoms), list(recipe.atoms.values()))
    basis, transformation = moyopy.niggli_reduce(cell.lattice.tolist())
    frac = cell.frac_coords() @ np.linalg.inv(np.array(transformation, float)).T
    crystal = Crystal(np.array(basis), frac % 1.0, numbers).scaled_to_volume(_volume(recipe))
    return crystal if keeps_separations(crystal, recipe) else None


def keeps_separations(crystal: Crystal, recipe: Recipe) -> bool:
    """Whether every two atoms, images included, keep the distance that `separations.py` asks of them."""
    model = _spheres_of(recipe)
    allowed = recipe.volume_factor ** (1 / 3) * model.separations
    element = np.searchsorted(model.numbers, crystal.numbers)
    first, second, distance = NeighborList(cutoff=float(allowed.max()), full_list=False).compute(
        points=crystal.positions, box=crystal.lattice, periodic=True, quantities="ijd"
    )
    return bool((distance >= allowed[element[first], element[second]]).all())


class RandomSearchGenerator:
    """Random structures of enumerated or given compositions (entry point "random_search")."""

    name = "random_search"
    code = CODE

    def shards(self, parents: ParentTable, config: GenerationConfig) -> list[Shard]:
        n = n_items(config.compositions, config.allowed_numbers(parents.elements))
        size = SYSTEMS_PER_SHARD
        return [Shard(self.name, start, min(start + size, n), config.seed) for start in range(0, n, size)]

    def recipes(
        self, shard: Shard, parents: ParentTable, config: GenerationConfig, counts: Counter[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        counts = Counter() if counts is None else counts
        elements = config.allowed_numbers(parents.elements)
        found = compositions(shard.start, shard.stop, config.compositions, elements, counts)
        pieces = (part for batch in found for part in np.array_split(batch, -(-len(batch) // 64)))
        yield from batched(random_recipes(part, config.random_search, shard.seed, counts) for part in pieces)

    def expand(self, recipes: Sequence[Recipe], parents: ParentTable) -> list[Crystal | None]:
        return make_crystals(recipes)
