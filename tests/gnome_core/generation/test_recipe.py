import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.crystals.crystal import crystal_digest
from gnome_core.crystals.formulas import reduced_formula
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, expand, shard_recipes
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import (
    RECIPE_SCHEMA,
    Recipe,
    expand_recipe,
    expand_recipes,
    pack_mapping,
    recipe_batch,
    recipe_compositions,
    recipe_digests,
    recipe_formulas,
    recipe_rows,
)
from tests.gnome_core.generation.samples import batio3, parents

PARENTS = parents()


def all_recipes(**settings_) -> pa.Table:
    config = GenerationConfig(**settings_)
    return pa.Table.from_batches([b for s in all_shards(PARENTS, config) for b in shard_recipes(s, PARENTS, config)])


RECIPES = all_recipes()


def test_a_row_is_41_bytes():
    widths = [field.type.bit_width // 8 for field in RECIPE_SCHEMA]
    assert sum(widths) == 41


@settings(max_examples=100, deadline=None)
@given(st.integers(0, RECIPES.num_rows - 1))
def test_expansion(i):
    recipe = recipe_rows(RECIPES.slice(i, 1))[0]
    crystal, parent = expand_recipe(recipe, PARENTS), PARENTS.crystals[recipe.parent]
    assert crystal_digest(crystal) == crystal_digest(expand_recipe(recipe, PARENTS))
    assert crystal.n_sites == parent.n_sites
    assert np.array_equal(crystal.frac_coords, parent.frac_coords)
    scale = (crystal.volume / parent.volume) ** (1 / 3)
    assert np.allclose(crystal.lattice, scale * parent.lattice)
    assert 0.3 < scale**3 < 4
    changed = crystal.numbers != parent.numbers
    assert set(parent.numbers[changed].tolist()) == set(recipe.replacements)
    mask = recipe.site_mask(parent.n_sites)
    if mask is not None:
        assert np.array_equal(changed, mask)


def test_formulas_and_compositions_without_crystals():
    crystals = expand(RECIPES, PARENTS)
    assert recipe_formulas(RECIPES, PARENTS) == [reduced_formula(c.numbers) for c in crystals]
    counts = np.stack([np.bincount(c.numbers, minlength=95) for c in crystals])
    assert np.array_equal(recipe_compositions(RECIPES, PARENTS), counts)


def test_swaps_and_merging_elements():
    # Na <-> Cl exchanged, and both replaced by elements of which one is already there.
    mapping = pack_mapping(np.array([11, 17]), np.array([[17, 11], [11, 9], [19, 17]]))
    batch = recipe_batch(0, 1, mapping)
    assert [r.replacements for r in recipe_rows(batch)] == [{11: 17, 17: 11}, {17: 9}, {11: 19}]
    assert recipe_formulas(batch, PARENTS) == ["NaCl", "NaF", "KCl"]
    assert [c.numbers[0] for c in expand_recipes(batch, PARENTS)] == [17, 11, 19]


def test_digests_are_distinct_and_follow_the_parent_id():
    digests = recipe_digests(RECIPES, PARENTS)
    assert len(set(digests)) == RECIPES.num_rows
    assert {len(d) for d in digests} == {16}
    # The same parents in another order: rows change, identities do not.
    order = [3, 0, 5, 1, 4, 2]
    shuffled = ParentTable.from_crystals([PARENTS.ids[i] for i in order], [PARENTS.crystals[i] for i in order])
    row_of = np.argsort(order)
    moved = RECIPES.set_column(0, RECIPE_SCHEMA.field(0), pa.array(row_of[RECIPES["parent"].to_numpy()], pa.uint32()))
    assert recipe_digests(moved, shuffled) == digests


def test_parquet_round_trip_and_slices(tmp_path):
    pq.write_table(RECIPES, tmp_path / "recipes.parquet")
    back = pq.read_table(tmp_path / "recipes.parquet")
    assert back.equals(RECIPES)
    part = RECIPES.slice(37, 11).combine_chunks().to_batches()[0]
    sliced = RECIPES.combine_chunks().to_batches()[0].slice(37, 11)
    assert recipe_digests(sliced, PARENTS) == recipe_digests(part, PARENTS) == recipe_digests(RECIPES, PARENTS)[37:48]


def test_unknown_parent_is_an_error():
    with pytest.raises(IndexError):
        expand_recipe(Recipe(99, 1, bytes(12), bytes(16), 0), PARENTS)


def test_a_fixed_recipe_gives_a_fixed_crystal():
    table = ParentTable.from_crystals(["p"], [batio3()])
    sr = recipe_batch(0, 1, pack_mapping(np.array([8, 22, 56]), np.array([[8, 22, 38]])))
    crystal = expand_recipes(sr, table)[0]
    assert recipe_formulas(sr, table) == ["SrTiO3"]
    # SrTiO3 has a = 3.91 Å, BaTiO3 4.01 Å.
    assert crystal.lattice[0, 0] == pytest.approx(4.0 * 3.91 / 4.01, rel=0.02)
