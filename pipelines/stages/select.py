"""select: scored candidates -> the few to evaluate, by the models' ranking and at random, with polymorphs if asked."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from gnome_core.generation.generators import expand
from gnome_core.generation.recipe import recipe_compositions
from gnome_core.matching.clusters import cluster_structures, representatives
from gnome_core.models.shipped import Framework
from gnome_core.selection.cost import dft_cost
from gnome_core.selection.selection import (
    MIN_IQR,
    NORMAL_IQR,
    acquisition,
    explorable,
    explore_budget,
    rank_by_cost,
)
from gnome_core.stability.chance import Calibration, calibrations
from pipelines.beam import tags
from pipelines.beam.metrics import timer
from pipelines.beam.tables import ReadTable, WriteTable
from pipelines.beam.top_rows import KeepTop, Limit, counted_rows
from pipelines.errors import UserError
from pipelines.reading.committed import candidate_parents, references
from pipelines.reading.schemas import SELECTED_SCHEMA
from pipelines.rounds.config import SelectionConfig
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import WriteManifest, run_job
from pipelines.stages.polymorphs import Polymorphs
from pipelines.stages.random_baseline import RandomBaseline, baseline_seed
from pipelines.stages.searched_compositions import of_framework
from pipelines.store.records import Manifest


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config

    def build(pipeline: beam.Pipeline) -> None:
        def read(label: str, framework: Framework) -> beam.PCollection:
            rows = pipeline | f"Scored{label}_{framework}" >> ReadTable(root, job.input("score"), "scored")
            if config.searches:
                rows |= f"Only{label}_{framework}" >> beam.Map(of_framework, framework).with_output_types(
                    pa.RecordBatch
                )
            return rows | f"Cost{label}_{framework}" >> beam.ParDo(AddCost(root, job.round)).with_output_types(
                pa.RecordBatch
            )

        rows, counts, dead = [], [], []
        for framework in config.frameworks:
            settings = config.selection_of(framework)
            calibration = calibration_of(settings, references(root).scale)
            choose = Choose(root, job.round, settings, baseline_seed(job, framework), calibration)
            # Read twice, rather than kept until it is known what chance has chosen.
            scored = (read("ForChance", framework), read("ForModels", framework))
            chosen, own_counts = scored | f"Choose_{framework}" >> choose
            rows.append(chosen)
            counts += own_counts
            if settings.polymorphs or settings.random_polymorphs:  # of the structural framework alone
                others, own_counts, dead = chosen | "Polymorphs" >> Polymorphs(job)
                rows += others
                counts += own_counts
        selected = rows | "Selected" >> beam.Flatten()
        files = selected | "Write" >> WriteTable(root, path, "selected", SELECTED_SCHEMA, ("digest",), 1)
        pipeline | "Manifest" >> WriteManifest(root, path, "selected", [files], counts, dead)

    return run_job(job, build, {})


class Choose(beam.PTransform):
    """Scored candidates with cost, twice, for chance and for the models -> (batches of SELECTED_SCHEMA, counts)."""

    def __init__(
        self,
        root: str,
        round_: int,
        settings: SelectionConfig,
        seed: int,
        calibration: Calibration | None = None,
    ):
        super().__init__()
        self.root, self.round, self.settings, self.seed = root, round_, settings, seed
        self.calibration = calibration

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
            RankAndThreshold(settings, self.calibration), chosen_by_chance, chosen_to_explore
        ).with_output_types(pa.RecordBatch, **tags.HINTS).with_outputs(tags.COUNTS, main="rows")
        best, worse = low.rows | "BestOfFormula" >> KeepTop(
            "formula", settings.clustered_per_formula, (VALUE, "digest"), "not_lowest_of_composition", uncounted=RANDOM
        )
        distinct = best | "Cluster" >> beam.ParDo(
            ClusterPolymorphs(self.root, self.round, settings.per_formula)
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


RANDOM = "selected_by_random"
COST = "estimated_cost"
VALUE = "value"  # acquisition value, eV/atom
RANK = "rank"  # what candidates compete by
UNCERTAINTY = "uncertainty"  # minus the interquartile range, eV/atom: the most uncertain come first


@beam.typehints.with_output_types(pa.RecordBatch)
class AddCost(beam.DoFn):
    """Adds `estimated_cost` to candidates."""

    def __init__(self, root: str, round_: int):
        self.root, self.round = root, round_

    def setup(self) -> None:
        self.parents = candidate_parents(self.root, self.round)

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
    alone, and of those chosen to explore, which are left out. calibration: see `calibration_of`.
    """

    def __init__(self, settings: SelectionConfig, calibration: Calibration | None = None):
        self.settings, self.calibration = settings, calibration
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
        rank = self._rank(value, iqr, cost)
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

    def _rank(self, value: np.ndarray, iqr: np.ndarray, cost: np.ndarray) -> np.ndarray:
        if self.calibration is not None:
            chance = self.calibration.chance(value, np.fmax(iqr, MIN_IQR) / NORMAL_IQR)
            return -chance / cost if self.settings.by_cost else -chance
        return rank_by_cost(value, iqr, cost) if self.settings.by_cost else value


def calibration_of(settings: SelectionConfig, scale: str) -> Calibration | None:
    """What ranking by probability takes: of distances to the evaluator's own hull, where they were measured, else to
    the published one. None where candidates rank by energy. Raises UserError for a scale that is not calibrated."""
    if settings.rank == "energy":
        return None
    known = {**calibrations("published"), **calibrations("own")}
    if scale not in known:
        raise UserError(
            f'selection.rank = "probability": no judge on {scale} is calibrated; those on {", ".join(known)} are. Use '
            '"energy"'
        )
    return known[scale]


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

    def __init__(self, root: str, round_: int, per_formula: int):
        self.root, self.round, self.per_formula = root, round_, per_formula

    def setup(self) -> None:
        self.parents = candidate_parents(self.root, self.round)

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
