"""Candidates chosen at random beside those of the models: the baseline of every hit rate."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from gnome_core.models.shipped import Framework
from gnome_core.selection.draws import draws
from pipelines.beam.top_rows import KeepTop, top_per_group
from pipelines.rounds.config import derived_seed
from pipelines.rounds.job import Job


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


def baseline_seed(job: Job, framework: Framework) -> int:
    """Seed of a framework's random baseline."""
    return derived_seed(job.config, "random_baseline", job.round, framework)
