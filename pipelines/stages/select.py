"""select: scored candidates -> the few to evaluate, by the models' ranking and at random."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from pipelines import tags
from pipelines.config import derived_seed
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.round import Job
from pipelines.schemas import SELECTED_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.select import (
    RANDOM,
    VALUE,
    ClusterPolymorphs,
    RandomBaseline,
    RankAndThreshold,
    merge_choices,
)
from pipelines.transforms.top import KeepTop


def run(job: Job) -> Manifest:
    root, path, settings = job.store.root, job.attempt.path, job.config.selection

    def build(pipeline: beam.Pipeline) -> None:
        scored = pipeline | "Scored" >> ReadTable(root, job.input("score"), "scored")

        baseline = scored | "Baseline" >> RandomBaseline(settings.random_baseline, baseline_seed(job))
        chosen_by_chance = beam.pvalue.AsList(baseline)

        rank = RankAndThreshold(settings.threshold, settings.kappa)
        low = scored | "Threshold" >> beam.ParDo(rank, chosen_by_chance).with_output_types(
            pa.RecordBatch, **tags.HINTS
        ).with_outputs(tags.COUNTS, main="rows")
        best, worse = low.rows | "BestOfFormula" >> KeepTop(
            "formula", settings.clustered_per_formula, (VALUE, "digest"), "not_lowest_of_composition", uncounted=RANDOM
        )
        distinct = best | "Cluster" >> beam.ParDo(
            ClusterPolymorphs(root, job.round - 1, settings.per_formula)
        ).with_output_types(pa.RecordBatch, **tags.HINTS).with_outputs(tags.COUNTS, main="rows")
        spread, full = distinct.rows | "BestOfSystem" >> KeepTop(
            "chemsys", settings.per_chemsys, (VALUE, "digest"), "chemsys_full", uncounted=RANDOM
        )
        chosen, over = spread | "Budget" >> KeepTop(
            None, settings.budget, (VALUE, "digest"), "over_budget", uncounted=RANDOM
        )
        selected = (
            pipeline
            | "Once" >> beam.Create([0])
            | "Merge"
            >> beam.Map(merge_choices, beam.pvalue.AsList(chosen), chosen_by_chance).with_output_types(pa.RecordBatch)
        )
        files = selected | "Write" >> WriteTable(root, path, "selected", SELECTED_SCHEMA, ("digest",), 1)
        counts = [low[tags.COUNTS], distinct[tags.COUNTS], *worse, *full, *over]
        pipeline | "Manifest" >> WriteManifest(root, path, "selected", [files], counts)

    return run_job(job, build, {})


def baseline_seed(job: Job) -> int:
    """Seed of the round's random baseline."""
    return derived_seed(job.config, "random_baseline", job.round)
