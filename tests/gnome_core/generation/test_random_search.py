from collections import Counter
from math import gcd

import moyopy
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.compositions.packed import parse_formulas
from gnome_core.crystals.crystal import Crystal, check_crystal, shortest_distance
from gnome_core.generation import random_search
from gnome_core.generation.config import CompositionConfig, GenerationConfig, RandomSearchConfig
from gnome_core.generation.generators import all_shards, expand, shard_recipes, try_expand
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.random_search import (
    RandomSearchGenerator,
    fitting_groups,
    keeps_separations,
    make_crystals,
    random_recipes,
)
from gnome_core.generation.recipe import (
    NO_PARENT,
    recipe_compositions,
    recipe_digests,
    recipe_formulas,
    recipe_rows,
)
from gnome_core.generation.separations import spheres
from gnome_core.generation.space_groups import operations, orbits
from tests.gnome_core.generation.samples import parents

FORMULAS = ["Li15Si4", "BaTiO3", "NaCl"]
NOBODY = ParentTable.from_crystals([], [])


def recipes(structures=40, seed=0, formulas=FORMULAS, **settings_) -> pa.RecordBatch:
    config = RandomSearchConfig(structures=structures, **settings_)
    return random_recipes(parse_formulas(formulas), config, seed)


@pytest.fixture(scope="module")
def batch() -> pa.RecordBatch:
    return recipes(max_operations=48)


@pytest.fixture(scope="module")
def crystals(batch) -> list[Crystal | None]:
    return make_crystals(recipe_rows(batch))


def operations_found(crystal, symprec) -> int:
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist())
    return len(moyopy.MoyoDataset(cell, symprec=symprec).operations)


def test_crystals_are_what_their_recipes_say(batch, crystals):
    assert sum(crystal is None for crystal in crystals) <= 0.2 * len(crystals)
    for recipe, crystal in zip(recipe_rows(batch), crystals, strict=True):
        if crystal is None:
            continue
        check_crystal(crystal)
        assert dict(Counter(crystal.numbers.tolist())) == recipe.atoms
        model = spheres(tuple((z, n // gcd(*recipe.atoms.values())) for z, n in recipe.atoms.items()))
        expected = recipe.volume_factor * sum(
            recipe.atoms[z] * v for z, v in zip(model.numbers.tolist(), model.volumes, strict=True)
        )
        assert crystal.volume == pytest.approx(expected)
        assert moyopy.is_niggli_reduced(crystal.lattice.tolist())
        assert operations_found(crystal, 1e-3) >= len(operations(recipe.space_group)[0])


def test_atoms_keep_their_separations(batch, crystals):
    """Counted by pymatgen, which shares no code with the check that the generator makes itself."""
    from pymatgen.core import Lattice, Structure

    for recipe, crystal in zip(recipe_rows(batch)[::4], crystals[::4], strict=True):
        if crystal is None:
            continue
        model = spheres(tuple((z, n // gcd(*recipe.atoms.values())) for z, n in recipe.atoms.items()))
        allowed = recipe.volume_factor ** (1 / 3) * model.separations
        structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac_coords)
        first, second, _, distance = structure.get_neighbor_list(float(allowed.max()))
        rank = np.searchsorted(model.numbers, crystal.numbers)
        assert (distance >= allowed[rank[first], rank[second]] - 1e-9).all()
        assert shortest_distance(crystal, float(allowed.min())) == np.inf


def test_too_near_atoms_are_noticed(batch, crystals):
    recipe, crystal = next((r, c) for r, c in zip(recipe_rows(batch), crystals, strict=True) if c is not None)
    assert keeps_separations(crystal, recipe)
    assert not keeps_separations(crystal.scaled_to_volume(0.3 * crystal.volume), recipe)


def test_expansion_does_not_depend_on_the_batch(batch, crystals):
    order = np.random.default_rng(0).permutation(len(crystals))[:30]
    again = make_crystals([recipe_rows(batch)[i] for i in order])
    for i, crystal in zip(order.tolist(), again, strict=True):
        expected = crystals[i]
        assert (crystal is None) == (expected is None)
        if crystal is not None:
            assert np.array_equal(crystal.lattice, expected.lattice)
            assert np.array_equal(crystal.frac_coords, expected.frac_coords)


def test_recipes_depend_on_seed_and_composition_alone(batch):
    together, alone = recipes(10), recipes(10, formulas=["BaTiO3"])
    assert together.slice(10, 10).equals(alone)
    assert not recipes(10, seed=1).equals(together)
    digests = recipe_digests(batch, NOBODY)
    assert len(set(digests)) == batch.num_rows
    assert recipe_digests(batch, parents()) == digests  # no parent, so no table of them


def test_recipes_spread_volumes_and_draw_cells_within_the_limits():
    batch = recipes(60, formulas=["BaTiO3"], volume_factors=(0.5, 1.0), max_sites=17)
    factors = np.array(batch["volume_factor"])
    assert factors == pytest.approx(np.linspace(0.5, 1.0, 60))
    units = recipe_compositions(batch, NOBODY).sum(axis=1) // 5
    assert set(units.tolist()) == {1, 2, 3}
    orders = {len(operations(int(number))[0]) for number in np.array(batch["space_group"])}
    assert orders == {1, 2, 3, 4}
    assert set(recipe_formulas(batch, NOBODY)) == {"BaTiO3"}
    assert set(np.array(batch["parent"]).tolist()) == {NO_PARENT}


def test_large_formula_units_are_counted_and_left_out():
    counts = Counter()
    batch = random_recipes(parse_formulas(FORMULAS), RandomSearchConfig(structures=2, max_sites=10), 0, counts)
    assert counts == {"compositions_too_large": 1, "compositions_taken": 2, "recipes": 4}
    assert batch.num_rows == 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_groups_fit_exactly_where_orbits_add_up(counts):
    """Against a search over all ways to take orbits, for the small groups."""

    def adds_up(number, left, taken):
        if not left:
            return True
        if left[0] == 0:
            return adds_up(number, left[1:], taken)
        return any(
            orbit.multiplicity <= left[0]
            and (orbit.freedom or i not in taken)
            and adds_up(number, (left[0] - orbit.multiplicity, *left[1:]), taken if orbit.freedom else taken | {i})
            for i, orbit in enumerate(orbits(number))
        )

    fitting = {number for groups in fitting_groups(tuple(sorted(counts, reverse=True)), 2) for number in groups}
    small = [number for number in range(1, 10) if len(operations(number)[0]) <= 2]
    assert fitting == {number for number in small if adds_up(number, tuple(counts), frozenset())}


def test_a_recipe_that_cannot_be_packed_ends_as_none(monkeypatch):
    started = Counter()
    loose_cell = random_search._loose_cell

    def counted(recipe, attempt):
        started[recipe.seed] += 1
        return loose_cell(recipe, attempt)

    monkeypatch.setattr(random_search, "_loose_cell", counted)
    monkeypatch.setattr(random_search, "keeps_separations", lambda crystal, recipe: False)
    batch = recipes(3)
    assert try_expand(batch, NOBODY) == [None] * 9
    assert set(started.values()) == {random_search.ATTEMPTS}
    with pytest.raises(ValueError, match="makes no crystal"):
        expand(batch, NOBODY)


def test_the_generator_takes_the_configured_compositions():
    config = GenerationConfig(
        generators=("random_search",),
        compositions=CompositionConfig(max_counts=(2, 1)),
        random_search=RandomSearchConfig(structures=3),
        elements=("Li", "Mg", "O"),
    )
    counts = Counter()
    shards = all_shards(parents(), config)
    table = pa.Table.from_batches([b for shard in shards for b in shard_recipes(shard, parents(), config, counts)])
    assert counts["recipes"] == table.num_rows == 3 * counts["compositions_taken"]
    assert counts["compositions_2"] == 3 * 3
    assert counts["compositions_3"] == 1
    formulas = set(recipe_formulas(table, parents()))
    assert {"MgO", "Li2O", "LiMgO"} <= formulas
    made = try_expand(table, parents())
    assert sum(crystal is not None for crystal in made) > 0.8 * len(made)
    assert RandomSearchGenerator.code not in {1, 2}
