"""All recipes of one composition are those that the whole generation would have made of it."""

import numpy as np
import pyarrow as pa

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.known import composition_hashes
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.readers import embedded_entries
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, expand, shard_recipes
from gnome_core.generation.parents import ParentTable, stoichiometry
from gnome_core.generation.polymorphs import substitutions_to
from gnome_core.generation.recipe import recipe_compositions, recipe_digests


def test_equals_what_substitution_of_all_parents_makes_of_a_composition():
    entries = embedded_entries({"Li", "Na", "Mg", "Ca", "O", "S"})
    parents = ParentTable.from_crystals(entries["id"].to_pylist()[::3], crystals_from_batch(entries)[::3])
    config = GenerationConfig(generators=("substitution",), max_sites=12)
    batches = [batch for shard in all_shards(parents, config) for batch in shard_recipes(shard, parents, config)]
    every = pa.concat_batches(batches)
    compositions = recipe_compositions(every, parents)
    hashes = composition_hashes(compositions)
    found, n = np.unique(hashes, return_counts=True)
    for wanted in found[np.argsort(-n)][[0, 5, 50, -1]]:
        rows = np.flatnonzero(hashes == wanted)
        capped = config.model_copy(update={"max_recipes_per_parent": 1, "elements": ("Li", "O")})
        recipes = substitutions_to(compositions[rows[0]], parents, capped)
        assert set(recipe_digests(recipes, parents)) == set(recipe_digests(every.take(pa.array(rows)), parents))
        made = atom_counts([crystal.numbers for crystal in expand(recipes, parents)])
        assert (composition_hashes(made.astype(int)) == wanted).all()


def test_a_stoichiometry_that_no_parent_has_is_made_of_none():
    entries = embedded_entries({"Li", "O"})
    parents = ParentTable.from_crystals(entries["id"].to_pylist(), crystals_from_batch(entries))
    composition = np.zeros(95, int)
    composition[[3, 8]] = 37, 41
    assert stoichiometry(composition[[8, 3]]) == (37, 41)
    assert substitutions_to(composition, parents, GenerationConfig()).num_rows == 0
