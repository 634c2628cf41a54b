"""Polymorphs: further structures of the compositions that the models chose, to find the ground state of each.

The lowest predicted candidate of a composition often is the wrong structure, and another one the right. So substitution
is asked for all that it makes of the composition from any parent, sampled before or not; one crystal of each distinct
structure is predicted in full, and the lowest are evaluated beside the chosen one. No `selected_by_...` is true of
them: hit rates stay those of what was chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.packed import pack_compositions
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import expand, try_expand
from gnome_core.generation.polymorphs import substitutions_to
from gnome_core.generation.random_search import random_recipes
from gnome_core.generation.recipe import NO_PARENT, recipe_compositions, recipe_digests
from gnome_core.matching.clusters import distinct_structures
from gnome_core.selection.cost import dft_cost
from pipelines.beam import tags
from pipelines.beam.metrics import timer
from pipelines.beam.options import network_hints
from pipelines.beam.tables import split_by_bucket
from pipelines.beam.top_rows import KeepTop
from pipelines.reading.committed import candidate_parents, committed
from pipelines.reading.members import member_addresses
from pipelines.reading.schemas import SELECTED_SCHEMA
from pipelines.rounds.config import SelectionConfig, derived_seed
from pipelines.rounds.job import Job
from pipelines.stages.score import HullEnergies, measured, row_wise, whole_model, with_crystals

BUCKETS = 64  # that compositions are spread over


class Polymorphs(beam.PTransform):
    """Chosen rows, one batch -> (PCollections of SELECTED_SCHEMA, counts, dead letters)."""

    def __init__(self, job: Job):
        super().__init__()
        config, root, last = job.config, job.store.root, job.round - 1
        self.settings, self.hints = config.selection, network_hints(job.flags)
        self.made = OtherStructures(
            root, job.round, self.settings, config.generation, derived_seed(config, "polymorphs", job.round)
        )
        self.hull = HullEnergies(root, last)
        # What scored the chosen rows: of it the commit of score was made, which select reads.
        members = member_addresses(job.store, committed(job.store, last, "train"))[: config.scoring.members]
        self.handler = whole_model(job, members)

    def expand(self, chosen):
        made = (
            chosen
            | "ByFormula" >> beam.FlatMap(by_formula).with_output_types(pa.RecordBatch)
            | "Spread" >> beam.Reshuffle()
            | "OtherStructures" >> row_wise(self.made).with_outputs(tags.COUNTS, main="rows")
        )
        placed = made.rows | "Hull" >> row_wise(self.hull).with_outputs(tags.COUNTS, main="rows")
        found = measured(placed.rows, "Predict", self.handler, self.hints, counted=False, stage="select")
        exchanged, random = (
            found.rows | name >> beam.Map(as_selected, random).with_output_types(pa.RecordBatch)
            for name, random in (("Exchanged", False), ("Random", True))
        )
        lowest, over = exchanged | "Lowest" >> KeepTop(
            "formula", self.settings.polymorphs, ("median", "digest"), "over_polymorphs"
        )
        counts = [made[tags.COUNTS], placed[tags.COUNTS], found[tags.COUNTS], *over]
        return [lowest, random], counts, [found[tags.DEAD]]


def by_formula(chosen: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Batches that hold whole compositions."""
    yield from (rows for _, rows in split_by_bucket(chosen, "formula", BUCKETS))


def as_selected(batch: pa.RecordBatch, random: bool) -> pa.RecordBatch:
    """The random structures of a batch, or the others, as SELECTED_SCHEMA: chosen by none."""
    batch = batch.filter(pc.equal(pc.equal(batch["parent"], NO_PARENT), random))
    for field in SELECTED_SCHEMA:
        if field.name.startswith("selected_"):
            batch = batch.append_column(field.name, pa.array(np.zeros(batch.num_rows, bool)))
    return batch.select(SELECTED_SCHEMA.names).cast(SELECTED_SCHEMA)


@beam.typehints.with_output_types(pa.RecordBatch)
class OtherStructures(beam.DoFn):
    """Chosen rows of whole compositions -> further candidates of those that the models chose: CANDIDATE_SCHEMA with
    CRYSTAL_FIELDS, estimated_cost and cluster_size.

    Each recipe counts as a row that came in. Rejected are crystals that cannot exist, and all but the first of a
    structure (same_structure), those that a chosen row has among them; random structures are not compared.
    """

    def __init__(self, root: str, round_: int, settings: SelectionConfig, generation: GenerationConfig, seed: int):
        self.root, self.round, self.generation, self.seed = root, round_, generation, seed
        self.exchanges = settings.polymorphs > 0
        self.search = None
        if settings.random_polymorphs:
            self.search = generation.random_search.model_copy(update={"structures": settings.random_polymorphs})

    def setup(self) -> None:
        self.parents = candidate_parents(self.root, self.round)

    def process(self, chosen: pa.RecordBatch) -> Iterator:
        formulas = chosen["formula"].to_numpy(zero_copy_only=False)
        for formula in np.unique(formulas[chosen["selected_by_model"].to_numpy(zero_copy_only=False)]):
            with timer("polymorphs"):
                yield from self._of_composition(chosen.filter(pa.array(formulas == formula)))

    def _of_composition(self, chosen: pa.RecordBatch) -> Iterator:
        tallies: Counter[str] = Counter()
        recipes = self._recipes(recipe_compositions(chosen.slice(0, 1), self.parents)[0], tallies)
        crystals = try_expand(recipes, self.parents)
        reasons = [invalid_reason(crystal) for crystal in crystals]
        exchanged = np.array([reason is None for reason in reasons], bool) & (recipes["parent"].to_numpy() != NO_PARENT)
        sizes = np.ones(len(reasons), np.int32)
        rows = np.flatnonzero(exchanged)
        first, sizes_of_first = _first_of_each([crystals[row] for row in rows], expand(chosen, self.parents))
        sizes[rows[first]] = sizes_of_first
        for row in np.delete(rows, first):
            reasons[row] = "same_structure"
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, len(reasons)))
        for reason, n in Counter(filter(None, reasons)).items():
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), n))
        for name, n in tallies.items():
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.tally(f"random_polymorphs/{name}"), n))
        kept = np.array([reason is None for reason in reasons], bool)
        if kept.any():
            batch = recipes.filter(pa.array(kept))
            columns = {
                "digest": pa.array(recipe_digests(batch, self.parents), pa.binary(16)),
                "formula": pa.repeat(chosen["formula"][0], batch.num_rows),
                "chemsys": pa.repeat(chosen["chemsys"][0], batch.num_rows),
                "estimated_cost": pa.array(dft_cost(recipe_compositions(batch, self.parents))),
                "cluster_size": pa.array(sizes[kept]),
            }
            for name, column in columns.items():
                batch = batch.append_column(name, column)
            yield with_crystals(batch, [crystals[row] for row in np.flatnonzero(kept)])

    def _recipes(self, composition: np.ndarray, tallies: Counter[str]) -> pa.RecordBatch:
        unit = composition // np.gcd.reduce(composition)
        batches = []
        if self.exchanges:
            batches.append(substitutions_to(unit, self.parents, self.generation))
        if self.search is not None:
            batches.append(random_recipes(pack_compositions(unit[None]), self.search, self.seed, tallies))
        return pa.concat_batches(batches)


def _first_of_each(crystals: Sequence[Crystal], held: Sequence[Crystal]) -> tuple[np.ndarray, np.ndarray]:
    """(positions of the first crystal of each structure that `held` lacks, how many crystals have it)."""
    labels = distinct_structures(crystals, held)
    new = np.flatnonzero(labels >= 0)
    _, first, sizes = np.unique(labels[new], return_index=True, return_counts=True)
    return new[first], sizes
