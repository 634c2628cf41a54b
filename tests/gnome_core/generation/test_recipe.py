import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.compositions.formulas import reduced_formula
from gnome_core.compositions.packed import pack_compositions
from gnome_core.crystals.crystal import crystal_digest
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, expand, shard_recipes
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import (
    NO_PARENT,
    RECIPE_SCHEMA,
    Recipe,
    expand_recipe,
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


def test_a_row_is_at_most_48_bytes(tmp_path):
    assert sum(field.type.bit_width // 8 for field in RECIPE_SCHEMA) == 46
    pq.write_table(pa.concat_tables([RECIPES] * 8), tmp_path / "recipes.parquet")
    metadata = pq.read_metadata(tmp_path / "recipes.parquet")
    uncompressed = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    assert uncompressed / metadata.num_rows < 48


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
    assert [c.numbers[0] for c in expand(batch, PARENTS)] == [17, 11, 19]


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
        expand_recipe(Recipe(99, 1, bytes(12), bytes(16), 0, 1.0, 0), PARENTS)


def test_volume_factor_scales_the_cell():
    mapping = pack_mapping(np.array([11]), np.array([[19]]))
    plain, larger = (expand(recipe_batch(0, 1, mapping, volume_factor=f), PARENTS)[0] for f in (1.0, 1.25))
    assert larger.volume == pytest.approx(1.25 * plain.volume)
    assert np.array_equal(larger.frac_coords, plain.frac_coords)


def test_recipes_with_and_without_a_parent_live_in_one_table():
    atoms = np.zeros((2, 95), int)
    atoms[0, [3, 14]], atoms[1, [8, 26]] = (15, 4), (6, 4)
    alone = recipe_batch(NO_PARENT, 3, pack_compositions(atoms), seed=np.array([5, 2**64 - 1], np.uint64))
    mixed = pa.Table.from_batches([RECIPES.slice(0, 3).combine_chunks().to_batches()[0], alone]).combine_chunks()
    mixed = mixed.take([3, 0, 4, 1, 2]).combine_chunks().to_batches()[0]
    known = recipe_formulas(RECIPES.slice(0, 3), PARENTS)
    assert recipe_formulas(mixed, PARENTS) == ["Li15Si4", known[0], "Fe2O3", *known[1:]]
    assert recipe_compositions(mixed, PARENTS)[2].tolist() == atoms[1].tolist()
    assert [recipe.atoms for recipe in recipe_rows(mixed)] == [{3: 15, 14: 4}, {}, {8: 6, 26: 4}, {}, {}]
    assert recipe_rows(alone)[0].replacements == {}
    assert len(set(recipe_digests(mixed, PARENTS))) == 5
    with pytest.raises(IndexError):
        expand_recipe(recipe_rows(alone)[0], PARENTS)


def test_recipes_of_an_unknown_generator_are_named():
    with pytest.raises(ValueError, match="code 77"):
        expand(recipe_batch(0, 77, pack_mapping(np.array([11]), np.array([[19]]))), PARENTS)


def test_a_fixed_recipe_gives_a_fixed_crystal():
    table = ParentTable.from_crystals(["p"], [batio3()])
    sr = recipe_batch(0, 1, pack_mapping(np.array([8, 22, 56]), np.array([[8, 22, 38]])))
    crystal = expand(sr, table)[0]
    assert recipe_formulas(sr, table) == ["SrTiO3"]
    # SrTiO3 has a = 3.91 Å, BaTiO3 4.01 Å.
    assert crystal.lattice[0, 0] == pytest.approx(4.0 * 3.91 / 4.01, rel=0.02)
