from collections import Counter
from functools import cache
from math import comb

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import expand_recipe, recipe_rows
from gnome_core.generation.saps import SapsGenerator, site_permutations, subset_classes
from gnome_core.generation.space_groups import orbits, symmetric_lattice
from tests.gnome_core.generation.samples import batio3, lifepo4, parents, rock_salt, spinel

BURNSIDE = {  # crystal, ion -> classes of 1..n replaced atoms
    "BaTiO3 2x2x2": (lambda: batio3(2), 22, [1, 3, 3, 6, 3, 3, 1, 1]),
    "spinel": (spinel, 13, [1, 2, 2, 4, 2, 2, 1, 1]),
    "LiFePO4 Fe": (lifepo4, 26, [1, 3, 1, 1]),
    "LiFePO4 O": (lifepo4, 8, [3, 25, 81, 272, 587, 1103, 1505, 1742, 1505, 1103, 587, 272, 81, 25, 3, 1]),
}


def ion_permutations(crystal, number) -> np.ndarray:
    sites = np.flatnonzero(crystal.numbers == number)
    return np.searchsorted(sites, site_permutations(crystal)[:, sites])


@cache
def case_permutations(case: str) -> np.ndarray:
    make, number, _ = BURNSIDE[case]
    return ion_permutations(make(), number)


@cache
def case_classes(case: str):
    return subset_classes(case_permutations(case))


@pytest.mark.parametrize("case", BURNSIDE)
def test_number_of_classes_is_burnsides(case):
    expected = BURNSIDE[case][2]
    permutations, levels = case_permutations(case), case_classes(case)
    assert [len(level.subsets) for level in levels] == expected
    n = permutations.shape[1]
    for size, level in enumerate(levels, 1):
        # Orbit-stabiliser theorem: the classes together hold every subset once.
        assert sum(len(permutations) // s for s in level.stabilisers.tolist()) == comb(n, size)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_classes_are_distinct_and_complete(data):
    """Any subset is the image of exactly one representative."""
    case = data.draw(st.sampled_from(["BaTiO3 2x2x2", "spinel", "LiFePO4 Fe"]))
    permutations = case_permutations(case)
    n = permutations.shape[1]
    subset = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if not subset.any():
        return
    images = {tuple(image) for image in subset[permutations].tolist()}
    level = case_classes(case)[int(subset.sum()) - 1]
    assert sum(tuple(row) in images for row in level.subsets.tolist()) == 1


def test_cap_keeps_the_most_symmetric():
    whole, capped = case_classes("LiFePO4 O"), subset_classes(case_permutations("LiFePO4 O"), 5)
    for full, cut in zip(whole, capped, strict=True):
        assert len(cut.subsets) == min(5, len(full.subsets))
        assert cut.stabilisers.tolist() == full.stabilisers[: len(cut.stabilisers)].tolist()


def test_more_sites_than_one_word_holds():
    """Rotations of a ring of 60 sites: pairs are told apart by their distance, 1 to 30."""
    ring = (np.arange(60)[:, None] + np.arange(60)) % 60
    levels = subset_classes(ring, max_per_level=4)
    assert len(levels) == 60
    assert [len(level.subsets) for level in levels[:2]] == [1, 4]
    assert levels[1].stabilisers.tolist()[0] == 2  # opposite sites
    assert len({row.tobytes() for row in subset_classes(ring, 100)[1].subsets}) == 30


def test_a_double_perovskite_comes_out():
    """A2B2X6 gives A2BB'X6 though both B lie on one orbit, as does the rock-salt order of the 2x2x2 cell."""
    table = ParentTable.from_crystals(["p"], [batio3(2)])
    generator, config = SapsGenerator(), GenerationConfig(elements=("Ba", "Ti", "Zr", "O"))
    (shard,) = generator.shards(table, config)
    table_of = pa.Table.from_batches(list(generator.recipes(shard, table, config)))
    half = [
        expand_recipe(r, table)
        for r in recipe_rows(table_of)
        if r.replacements == {22: 40} and r.site_mask(40).sum() == 4
    ]
    assert len(half) == 6
    titanium_neighbours = []
    for crystal in half:
        position = np.round(crystal.frac_coords[np.isin(crystal.numbers, (22, 40))] * 2 - 0.5).astype(int)
        kind = crystal.numbers[np.isin(crystal.numbers, (22, 40))]
        parity = position.sum(axis=1) % 2
        titanium_neighbours.append(len(set(zip(parity.tolist(), kind.tolist(), strict=True))))
    assert titanium_neighbours.count(2) == 1  # one of the six is the checkerboard


def generate(table, **settings_):
    config, counts, generator = GenerationConfig(**settings_), Counter(), SapsGenerator()
    batches = [b for s in generator.shards(table, config) for b in generator.recipes(s, table, config, counts)]
    return (recipe_rows(pa.Table.from_batches(batches)) if batches else []), counts


def test_recipes_replace_a_part_and_are_independent_of_shards():
    table = parents()
    rows, counts = generate(table)
    assert len(set(rows)) == len(rows) == counts["recipes"]
    for recipe in rows:
        crystal = table.crystals[recipe.parent]
        ((old, new),) = recipe.replacements.items()
        mask = recipe.site_mask(crystal.n_sites)
        assert 0 < mask.sum() < (crystal.numbers == old).sum()
        assert (crystal.numbers[mask] == old).all()
        assert new != old
    assert generate(table, parents_per_shard=1)[0] == rows
    cut, cut_counts = generate(table, max_recipes_per_parent=20, seed=3)
    assert set(cut) <= set(rows)
    assert cut_counts["recipes"] + cut_counts["recipes_cut"] == counts["recipes"]


def test_charge_balance():
    table = ParentTable.from_crystals(["nacl"], [rock_salt(11, 17, 5.64)])
    rows, _ = generate(table, elements=("Na", "Cl", "K", "Mg", "F", "O"), saps_charge_balance=True)
    assert {next(iter(r.replacements.items())) for r in rows} == {(11, 19), (17, 9)}


def test_parents_outside_the_limits_are_counted():
    big = batio3(4)
    table = ParentTable.from_crystals(["big", "small"], [big, batio3(2)])
    rows, counts = generate(table, elements=("Ba", "Ti", "O", "Zr"), max_per_level=2)
    assert counts["parents_too_many_sites"] == 1
    assert {r.parent for r in rows} == {1}
    assert generate(table, elements=("Ba", "Ti", "Zr"))[1]["parents_with_other_elements"] == 1


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([12, 47, 123, 166, 194, 221, 225]), st.sampled_from([(2, 4), (4, 4), (3, 6)])
)
def test_recipes_of_random_symmetric_parents_are_distinct_under_their_symmetry(seed, group, counts):
    """No two candidates of a parent are carried into each other by an operation of the parent."""
    rng = np.random.default_rng(seed)
    cell, position = [], []
    lattice = symmetric_lattice(group, np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3))) * 9
    for number, wanted in zip((3, 8), counts, strict=True):
        orbit = min(orbits(group), key=lambda o: abs(o.multiplicity - wanted))
        cell += [number] * orbit.multiplicity
        position += (orbit.rotations @ rng.random(3) + orbit.translations).tolist()
    table = ParentTable.from_crystals(["p"], [Crystal(lattice, np.array(position) % 1, cell)])
    try:
        permutations = site_permutations(table.crystals[0])
    except ValueError:
        return
    rows, _ = generate(table, elements=("Li", "O", "Na", "S"))
    seen: dict[tuple, set[bytes]] = {}
    for recipe in rows:
        mask = recipe.site_mask(len(cell))
        images = {mask[permutation].tobytes() for permutation in permutations}
        assert mask.tobytes() not in seen.setdefault(tuple(recipe.replacements.items()), set())
        seen[tuple(recipe.replacements.items())] |= images
