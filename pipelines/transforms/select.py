"""Scored candidates -> those worth an evaluation.

The chain of filters is gnome_core.stability.selection.select, spread over workers; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from gnome_core.generation.generators import expand
from gnome_core.matching.clusters import cluster_structures, representatives
from pipelines import tags
from pipelines.metrics import timer
from pipelines.resources import parent_table
from pipelines.schemas import SELECTED_SCHEMA
from pipelines.transforms.draws import draws
from pipelines.transforms.top import KeepTop, counted_rows

RANDOM = "selected_by_random"
VALUE = "value"  # what candidates are ranked by, eV/atom


def with_draws(batch: pa.RecordBatch, seed: int) -> pa.RecordBatch:
    """The batch with uniform draws of its candidates and of their formulas, for the random baseline."""
    batch = batch.append_column("draw", draws(batch["digest"], seed))
    return batch.append_column("formula_draw", draws(batch["formula"], seed))


class RandomBaseline(beam.PTransform):
    """Scored batches -> n rows drawn uniformly over compositions, a random candidate of each."""

    def __init__(self, n: int, seed: int):
        super().__init__()
        self.n, self.seed = n, seed

    def expand(self, scored):
        drawn = scored | "Draw" >> beam.Map(with_draws, self.seed).with_output_types(pa.RecordBatch)
        of_formula, _ = drawn | "DrawCandidate" >> KeepTop("formula", 1, ("draw", "digest"), "")
        baseline, _ = of_formula | "DrawFormulas" >> KeepTop(None, self.n, ("formula_draw", "digest"), "")
        return baseline


@beam.typehints.with_output_types(pa.RecordBatch)
class RankAndThreshold(beam.DoFn):
    """Adds `value` and selected_by_random; rejects values above the threshold, and what was not predicted in full.

    baseline: (side input) batches of the rows that the random baseline chose; they are counted by it alone.
    """

    def __init__(self, threshold: float, kappa: float):
        self.threshold, self.kappa = threshold, kappa

    def process(self, batch: pa.RecordBatch, baseline: list[pa.RecordBatch]) -> Iterator:
        chosen = {digest for rows in baseline for digest in rows["digest"].to_pylist()}
        random = pa.array([digest in chosen for digest in batch["digest"].to_pylist()], pa.bool_())
        value = batch["e_above_hull"].to_numpy() - self.kappa * batch["iqr"].to_numpy()
        batch = batch.append_column(VALUE, pa.array(value)).append_column(RANDOM, random)
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        low = batch.filter(pa.array(value <= self.threshold))
        kept = low.filter(low["refined"])
        for reason, before, after in (("above_threshold", batch, low), ("not_refined", low, kept)):
            rejected = counted_rows(before, RANDOM) - counted_rows(after, RANDOM)
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), rejected))
        if kept.num_rows:
            yield kept


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


def merge_choices(_: int, chosen: list[pa.RecordBatch], baseline: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of both choices, each once, flagged by who chose them."""
    by_model = {row["digest"]: row for batch in chosen for row in batch.to_pylist()}
    by_chance = {row["digest"]: row for batch in baseline for row in batch.to_pylist()}
    rows = [
        {
            **by_chance.get(digest, {}),
            **by_model.get(digest, {}),
            "cluster_size": by_model.get(digest, {}).get("cluster_size", 1),
            "selected_by_model": digest in by_model,
            "selected_by_random": digest in by_chance,
        }
        for digest in sorted(by_model.keys() | by_chance.keys())
    ]
    names = SELECTED_SCHEMA.names
    return pa.RecordBatch.from_pylist([{name: row[name] for name in names} for row in rows], schema=SELECTED_SCHEMA)
