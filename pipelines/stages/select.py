"""select: scored candidates -> the few to evaluate, by the models' ranking and at random."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from gnome_core.models.shipped import Framework
from gnome_core.selection.selection import explore_budget
from pipelines import tags
from pipelines.config import SelectionConfig, derived_seed
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.round import Job
from pipelines.schemas import SELECTED_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.compositions import of_framework
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
    root, path, config = job.store.root, job.attempt.path, job.config

    def build(pipeline: beam.Pipeline) -> None:
        def read(label: str, framework: Framework) -> beam.PCollection:
            rows = pipeline | f"Scored{label}_{framework}" >> ReadTable(root, job.input("score"), "scored")
            if config.searches:
                rows |= f"Only{label}_{framework}" >> beam.Map(of_framework, framework).with_output_types(
                    pa.RecordBatch
                )
            return rows | f"Cost{label}_{framework}" >> beam.ParDo(AddCost(root, job.round - 1)).with_output_types(
                pa.RecordBatch
            )

        rows, counts = [], []
        for framework in config.frameworks:
            choose = Choose(root, job.round - 1, config.selection_of(framework), baseline_seed(job, framework))
            # Read twice, rather than kept until it is known what chance has chosen.
            scored = (read("ForChance", framework), read("ForModels", framework))
            chosen, own_counts = scored | f"Choose_{framework}" >> choose
            rows.append(chosen)
            counts += own_counts
        selected = rows | "Selected" >> beam.Flatten()
        files = selected | "Write" >> WriteTable(root, path, "selected", SELECTED_SCHEMA, ("digest",), 1)
        pipeline | "Manifest" >> WriteManifest(root, path, "selected", [files], counts)

    return run_job(job, build, {})


class Choose(beam.PTransform):
    """Scored candidates with cost, twice, for chance and for the models -> (batches of SELECTED_SCHEMA, counts)."""

    def __init__(self, root: str, parents_round: int, settings: SelectionConfig, seed: int):
        super().__init__()
        self.root, self.parents_round, self.settings, self.seed = root, parents_round, settings, seed

    def expand(self, scored):
        for_chance, for_models = scored
        settings = self.settings
        n_explored = explore_budget(settings.budget, settings.explore)
        cost_explored, cost_exploited = cost_budgets(settings)
        baseline = for_chance | "Baseline" >> RandomBaseline(settings.random_baseline, self.seed)
        chosen_by_chance = beam.pvalue.AsList(baseline)

        chosen_to_explore = []
        if n_explored:  # those whose energy the members disagree on most
            likely = for_chance | "Likely" >> beam.Map(to_explore, settings.threshold, cost_explored).with_output_types(
                pa.RecordBatch
            )
            by = (UNCERTAINTY, "digest")
            of_formula, _ = likely | "UncertainOfFormula" >> KeepTop("formula", 1, by, "")
            of_system, _ = of_formula | "UncertainOfSystem" >> KeepTop("chemsys", settings.per_chemsys, by, "")
            explored, _ = of_system | "Explore" >> KeepTop(None, n_explored, by, "", limit=Limit(COST, cost_explored))
            chosen_to_explore = beam.pvalue.AsList(explored)

        low = for_models | "Threshold" >> beam.ParDo(
            RankAndThreshold(settings), chosen_by_chance, chosen_to_explore
        ).with_output_types(pa.RecordBatch, **tags.HINTS).with_outputs(tags.COUNTS, main="rows")
        best, worse = low.rows | "BestOfFormula" >> KeepTop(
            "formula", settings.clustered_per_formula, (VALUE, "digest"), "not_lowest_of_composition", uncounted=RANDOM
        )
        distinct = best | "Cluster" >> beam.ParDo(
            ClusterPolymorphs(self.root, self.parents_round, settings.per_formula)
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
            for_chance.pipeline
            | "Once" >> beam.Create([0])
            | "Merge"
            >> beam.Map(
                merge_choices, beam.pvalue.AsList(chosen), chosen_by_chance, chosen_to_explore
            ).with_output_types(pa.RecordBatch)
        )
        return selected, [low[tags.COUNTS], distinct[tags.COUNTS], *worse, *full, *over]


def baseline_seed(job: Job, framework: Framework) -> int:
    """Seed of a framework's random baseline."""
    return derived_seed(job.config, "random_baseline", job.round, framework)
