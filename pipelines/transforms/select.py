"""Scored candidates -> those worth an evaluation.

The chain of filters is gnome_core.selection.selection.select, spread over workers; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from gnome_core.generation.generators import expand
from gnome_core.generation.recipe import recipe_compositions
from gnome_core.matching.clusters import cluster_structures, representatives
from gnome_core.selection.cost import dft_cost
from gnome_core.selection.draws import draws
from gnome_core.selection.selection import acquisition, explorable, rank_by_cost
from pipelines import tags
from pipelines.config import SelectionConfig
from pipelines.metrics import timer
from pipelines.resources import parent_table
from pipelines.schemas import SELECTED_SCHEMA
from pipelines.transforms.top import KeepTop, counted_rows, top_per_group

RANDOM = "selected_by_random"
COST = "estimated_cost"
VALUE = "value"  # acquisition value, eV/atom
RANK = "rank"  # what candidates compete by
UNCERTAINTY = "uncertainty"  # minus the interquartile range, eV/atom: the most uncertain come first


def with_draws(batch: pa.RecordBatch, seed: int) -> pa.RecordBatch:
    """The batch with uniform draws of its candidates and of their formulas, for the random baseline."""
    batch = batch.append_column("draw", draws(batch["digest"], seed))
    return batch.append_column("formula_draw", draws(batch["formula"], seed))


def first_draws(batch: pa.RecordBatch, seed: int, n: int) -> pa.RecordBatch:
    """The rows of a batch that the baseline may still choose: a random one of each formula, of n random formulas."""
    drawn = pa.Table.from_batches([with_draws(batch, seed)])
    rows = top_per_group(drawn, "formula", 1, ("draw", "digest"))
    rows = top_per_group(rows, None, n, ("formula_draw", "digest")).combine_chunks()
    return rows.to_batches()[0] if len(rows) else pa.RecordBatch.from_pylist([], schema=drawn.schema)


class RandomBaseline(beam.PTransform):
    """Scored batches -> n rows drawn uniformly over compositions, a random candidate of each."""

    def __init__(self, n: int, seed: int):
        super().__init__()
        self.n, self.seed = n, seed

    def expand(self, scored):
        drawn = scored | "Draw" >> beam.Map(first_draws, self.seed, self.n).with_output_types(pa.RecordBatch)
        of_formula, _ = drawn | "DrawCandidate" >> KeepTop("formula", 1, ("draw", "digest"), "")
        baseline, _ = of_formula | "DrawFormulas" >> KeepTop(None, self.n, ("formula_draw", "digest"), "")
        return baseline


@beam.typehints.with_output_types(pa.RecordBatch)
class AddCost(beam.DoFn):
    """Adds `estimated_cost` to candidates."""

    def __init__(self, root: str, parents_round: int):
        self.root, self.parents_round = root, parents_round

    def setup(self) -> None:
        self.parents = parent_table(self.root, self.parents_round)

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        cost = dft_cost(recipe_compositions(batch, self.parents))
        yield batch.append_column(COST, pa.array(cost))


def to_explore(batch: pa.RecordBatch, threshold: float, cost_budget: float) -> pa.RecordBatch:
    """The candidates that may be chosen for their spread, with `uncertainty`, by which they rank."""
    iqr = batch["iqr"].to_numpy()
    likely = explorable(batch["e_above_hull"].to_numpy(), iqr, threshold) & (batch[COST].to_numpy() <= cost_budget)
    likely &= np.asarray(batch["refined"])
    return batch.append_column(UNCERTAINTY, pa.array(-iqr)).filter(pa.array(likely))


@beam.typehints.with_output_types(pa.RecordBatch)
class RankAndThreshold(beam.DoFn):
    """Adds `value`, `rank` and selected_by_random; rejects what costs more than the budget, is above the
    threshold, or was not predicted in full.

    baseline, explored: (side inputs) batches of the rows that the random baseline chose, which are counted by it
    alone, and of those chosen to explore, which are left out.
    """

    def __init__(self, settings: SelectionConfig):
        self.settings = settings
        self.cost_budget = cost_budgets(settings)[1]

    def process(
        self, batch: pa.RecordBatch, baseline: list[pa.RecordBatch], explored: list[pa.RecordBatch]
    ) -> Iterator:
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        by_chance, to_explore = _digests(baseline), _digests(explored)
        batch = batch.filter(pa.array([digest not in to_explore for digest in batch["digest"].to_pylist()], pa.bool_()))
        random = pa.array([digest in by_chance for digest in batch["digest"].to_pylist()], pa.bool_())
        iqr, cost = batch["iqr"].to_numpy(), batch[COST].to_numpy()
        value = acquisition(batch["e_above_hull"].to_numpy(), iqr, self.settings.kappa)
        rank = rank_by_cost(value, iqr, cost) if self.settings.by_cost else value
        for name, column in ((VALUE, value), (RANK, rank), (RANDOM, random)):
            batch = batch.append_column(name, pa.array(column))
        affordable, refined = cost <= self.cost_budget, np.asarray(batch["refined"])
        low = affordable & (value <= self.settings.threshold)
        kept = low & refined
        for reason, rows in (
            ("too_costly", ~affordable),
            ("above_threshold", affordable & ~low),
            ("not_refined", low & ~refined),
        ):
            rejected = counted_rows(batch.filter(pa.array(rows)), RANDOM)
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), rejected))
        if kept.any():
            yield batch.filter(pa.array(kept))


def cost_budgets(settings: SelectionConfig) -> tuple[float, float]:
    """Estimated cost that may be spent (to explore, to exploit)."""
    budget = np.inf if settings.cost_budget is None else settings.cost_budget
    return (budget * settings.explore if settings.explore else 0.0), budget * (1 - settings.explore)


def _digests(batches: list[pa.RecordBatch]) -> set[bytes]:
    return {digest for rows in batches for digest in rows["digest"].to_pylist()}


@beam.typehints.with_output_types(pa.RecordBatch)
class ClusterPolymorphs(beam.DoFn):
    """Best structures of each composition -> one of each cluster, the lowest first, at most `per_formula`.

    Batches hold whole compositions. Adds cluster_size.
    """

    def __init__(self, root: str, parents_round: int, per_formula: int):
        self.root, self.parents_round, self.per_formula = root, parents_round, per_formula

    def setup(self) -> None:
        self.parents = parent_table(self.root, self.parents_round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        formulas = batch["formula"].to_numpy(zero_copy_only=False)
        keep, sizes = [], []
        for formula in np.unique(formulas):
            rows = np.flatnonzero(formulas == formula)
            with timer("cluster"):
                first, size = self._representatives(batch.take(pa.array(rows)))
            keep += rows[first].tolist()
            sizes += size
        kept = batch.take(pa.array(keep)).append_column("cluster_size", pa.array(sizes, pa.int32()))
        n = counted_rows(batch, RANDOM) - counted_rows(kept, RANDOM)
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected("not_lowest_of_composition"), n))
        yield kept

    def _representatives(self, batch: pa.RecordBatch) -> tuple[np.ndarray, list[int]]:
        """Rows that stand for the lowest clusters, and the clusters' sizes."""
        values = batch[VALUE].to_numpy()
        labels = np.zeros(1, int) if len(values) == 1 else cluster_structures(expand(batch, self.parents), values)
        first = representatives(labels, values)[: self.per_formula]
        return first, np.bincount(labels)[labels[first]].tolist()


def merge_choices(
    _: int, chosen: list[pa.RecordBatch], baseline: list[pa.RecordBatch], explored: list[pa.RecordBatch]
) -> pa.RecordBatch:
    """The rows of all choices, each once, flagged by who chose them."""
    by_model, by_chance, to_explore = (
        {row["digest"]: row for batch in batches for row in batch.to_pylist()}
        for batches in (chosen, baseline, explored)
    )
    rows = [
        {
            **by_chance.get(digest, {}),
            **to_explore.get(digest, {}),
            **by_model.get(digest, {}),
            "cluster_size": by_model.get(digest, {}).get("cluster_size", 1),
            "selected_by_model": digest in by_model,
            "selected_by_random": digest in by_chance,
            "selected_to_explore": digest in to_explore,
        }
        for digest in sorted(by_model.keys() | by_chance.keys() | to_explore.keys())
    ]
    names = SELECTED_SCHEMA.names
    return pa.RecordBatch.from_pylist([{name: row[name] for name in names} for row in rows], schema=SELECTED_SCHEMA)
