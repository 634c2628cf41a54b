"""Shards -> candidates: recipes with their digests and compositions, only those worth scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from gnome_core.crystals.formulas import SYMBOLS, formula_of_composition
from gnome_core.crystals.split import holds_withheld
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import Shard, shard_recipes
from gnome_core.generation.oxidation import can_be_neutral
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import recipe_compositions, recipe_digests
from pipelines import progress, tags
from pipelines.metrics import inc, timer
from pipelines.resources import known_formulas, parent_table
from pipelines.schemas import CANDIDATE_SCHEMA


def candidate_batch(recipes: pa.RecordBatch, parents: ParentTable) -> pa.RecordBatch:
    """Recipes with the columns digest, formula and chemsys; no crystal is built."""
    compositions = recipe_compositions(recipes, parents)
    compositions = compositions // np.gcd.reduce(compositions, axis=1)[:, None]
    unique, inverse = np.unique(compositions, axis=0, return_inverse=True)
    keys = [tuple((z, int(n)) for z, n in enumerate(row) if n) for row in unique.tolist()]
    formulas = np.array([formula_of_composition(key) for key in keys], object)
    systems = np.array(["-".join(sorted(SYMBOLS[z] for z, _ in key)) for key in keys], object)
    rows = inverse.reshape(-1)
    digests = pa.array(recipe_digests(recipes, parents), pa.binary(16))
    columns = [*recipes.columns, digests, pa.array(formulas[rows]), pa.array(systems[rows])]
    return pa.RecordBatch.from_arrays(columns, schema=CANDIDATE_SCHEMA)


@beam.typehints.with_output_types(pa.RecordBatch)
class GenerateCandidates(beam.DoFn):
    """Shard -> batches of CANDIDATE_SCHEMA. Rejects known formulas and, under a holdout, chemical systems
    that hold a withheld one: the snapshot lacks its compounds, next to which anything would look stable."""

    def __init__(self, root: str, round_: int, config: GenerationConfig, holdout: str):
        self.root, self.round, self.config, self.holdout = root, round_, config, holdout

    def setup(self) -> None:
        self.parents = parent_table(self.root, self.round - 1)
        self.known = known_formulas(self.root, self.round)

    def process(self, shard: Shard) -> Iterator:
        skipped: Counter[str] = Counter()
        with timer("generate"):
            for recipes in shard_recipes(shard, self.parents, self.config, skipped):
                yield from self._new(candidate_batch(recipes, self.parents))
        for reason, n in skipped.items():
            inc(f"{shard.generator}_{reason}", n)
        progress.advance()

    def _new(self, batch: pa.RecordBatch) -> Iterator:
        known = np.array([formula in self.known for formula in batch["formula"].to_pylist()], bool)
        withheld = np.zeros(len(known), bool)
        if self.holdout == "holdout-v1":
            withheld = np.array([holds_withheld(system) for system in batch["chemsys"].to_pylist()], bool) & ~known
        unbalanced = np.zeros(len(known), bool)
        if self.config.oxidation_rule:
            unbalanced = ~can_be_neutral(recipe_compositions(batch, self.parents)) & ~known & ~withheld
        counts = {
            tags.IN: batch.num_rows,
            tags.rejected("known_formula"): int(known.sum()),
            tags.rejected("withheld_system"): int(withheld.sum()),
            tags.rejected("not_neutral"): int(unbalanced.sum()),
        }
        for name, n in counts.items():
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (name, n))
        kept = batch.filter(pa.array(~(known | withheld | unbalanced)))
        if kept.num_rows:
            yield kept
