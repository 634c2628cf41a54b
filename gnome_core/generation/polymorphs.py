"""Every recipe by which substitution makes a composition: the structures that compete with one chosen of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.compositions.known import composition_hashes
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import Shard
from gnome_core.generation.parents import ParentTable, stoichiometry
from gnome_core.generation.recipe import RECIPE_SCHEMA, recipe_compositions
from gnome_core.generation.substitution import SubstitutionGenerator


def substitutions_to(composition: np.ndarray, parents: ParentTable, config: GenerationConfig) -> pa.RecordBatch:
    """The recipes that make a composition (95,), atoms by atomic number, from any parent: all of them, whatever
    `max_recipes_per_parent`, in the order of the parents."""
    elements, substitution = np.flatnonzero(composition), SubstitutionGenerator()
    symbols = tuple(SYMBOLS[z] for z in elements)
    own = config.model_copy(update={"elements": symbols, "max_recipes_per_parent": None})
    wanted = composition_hashes(composition[None])[0]
    found = [pa.RecordBatch.from_pylist([], schema=RECIPE_SCHEMA)]
    # No other parent can make it: an exchange keeps the stoichiometry, unless ions become one element (Fe2+, Fe3+).
    for row in parents.by_stoichiometry.get(stoichiometry(composition[elements]), ()):
        for batch in substitution.recipes(Shard(substitution.name, row, row + 1, 0), parents, own):
            same = composition_hashes(recipe_compositions(batch, parents)) == wanted
            found.append(batch.filter(pa.array(same)))
    return pa.concat_batches(found)
