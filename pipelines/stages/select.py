"""select: scored candidates -> the few to evaluate, by the models' ranking and at random."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from gnome_core.stability.selection import explore_budget
from pipelines import tags
from pipelines.config import derived_seed
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.round import Job
from pipelines.schemas import SELECTED_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.select import (
    COST,
    RANDOM,
    RANK,
    UNCERTAINTY,
    VALUE,
    AddCost,
    ClusterPolymorphs,
    RandomBaseline,
    RankAndThreshold,
    cost_budgets,
    merge_choices,
    to_explore,
)
from pipelines.transforms.top import KeepTop, Limit


def run(job: Job) -> Manifest:
    root, path, settings = job.store.root, job.attempt.path, job.config.selection
    n_explored = explore_budget(settings.budget, settings.explore)
    cost_explored, cost_exploited = cost_budgets(settings)

    def build(pipeline: beam.Pipeline) -> None:
        def read(label: str) -> beam.PCollection:
            return (
                pipeline
                | f"Scored{label}" >> ReadTable(root, job.input("score"), "scored")
                | f"Cost{label}" >> beam.ParDo(AddCost(root, job.round - 1)).with_output_types(pa.RecordBatch)
            )

        scored = read("ForChance")
        baseline = scored | "Baseline" >> RandomBaseline(settings.random_baseline, baseline_seed(job))
        chosen_by_chance = beam.pvalue.AsList(baseline)

        chosen_to_explore = []
        if n_explored:  # those whose energy the members disagree on most
            likely = scored | "Likely" >> beam.Map(to_explore, settings.threshold, cost_explored).with_output_types(
                pa.RecordBatch
            )
            by = (UNCERTAINTY, "digest")
            of_formula, _ = likely | "UncertainOfFormula" >> KeepTop("formula", 1, by, "")
            of_system, _ = of_formula | "UncertainOfSystem" >> KeepTop("chemsys", settings.per_chemsys, by, "")
            explored, _ = of_system | "Explore" >> KeepTop(None, n_explored, by, "", limit=Limit(COST, cost_explored))
            chosen_to_explore = beam.pvalue.AsList(explored)

        # Read again, rather than kept until it is known what chance has chosen.
        low = read("") | "Threshold" >> beam.ParDo(
            RankAndThreshold(settings), chosen_by_chance, chosen_to_explore
        ).with_output_types(pa.RecordBatch, **tags.HINTS).with_outputs(tags.COUNTS, main="rows")
        best, worse = low.rows | "BestOfFormula" >> KeepTop(
            "formula", settings.clustered_per_formula, (VALUE, "digest"), "not_lowest_of_composition", uncounted=RANDOM
        )
        distinct = best | "Cluster" >> beam.ParDo(
            ClusterPolymorphs(root, job.round - 1, settings.per_formula)
        ).with_output_types(pa.RecordBatch, **tags.HINTS).with_outputs(tags.COUNTS, main="rows")
        spread, full = distinct.rows | "BestOfSystem" >> KeepTop(
            "chemsys", settings.per_chemsys, (RANK, "digest"), "chemsys_full", uncounted=RANDOM
        )
        chosen, over = spread | "Budget" >> KeepTop(
            None,
            settings.budget - n_explored,
            (RANK, "digest"),
            "over_budget",
            uncounted=RANDOM,
            limit=Limit(COST, cost_exploited),
        )
        selected = (
            pipeline
            | "Once" >> beam.Create([0])
            | "Merge"
            >> beam.Map(
                merge_choices, beam.pvalue.AsList(chosen), chosen_by_chance, chosen_to_explore
            ).with_output_types(pa.RecordBatch)
        )
        files = selected | "Write" >> WriteTable(root, path, "selected", SELECTED_SCHEMA, ("digest",), 1)
        counts = [low[tags.COUNTS], distinct[tags.COUNTS], *worse, *full, *over]
        pipeline | "Manifest" >> WriteManifest(root, path, "selected", [files], counts)

    return run_job(job, build, {})


def baseline_seed(job: Job) -> int:
    """Seed of the round's random baseline."""
    return derived_seed(job.config, "random_baseline", job.round)
