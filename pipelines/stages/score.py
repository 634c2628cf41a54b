"""score: candidates -> predicted formation energies and distances to the hull, through RunInference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.ml.inference.base import RunInference

from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_to_arrays
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.plugins import make_model
from gnome_core.generation.generators import try_expand
from gnome_core.generation.random_search import CODE as RANDOM_SEARCH
from gnome_core.models.shipped import Framework
from gnome_core.selection.selection import acquisition, explorable, explore_budget
from pipelines.beam import coders, progress, tags  # noqa: F401  registers the Arrow coders
from pipelines.beam.dead_letters import as_dead, dead_letter
from pipelines.beam.metrics import timer
from pipelines.beam.options import network_hints
from pipelines.beam.tables import ReadTable, WriteTable
from pipelines.beam.top_rows import KeepTop
from pipelines.reading.committed import candidate_parents, hull_vertices, references
from pipelines.reading.members import member_addresses, shipped_addresses
from pipelines.reading.schemas import CANDIDATE_SCHEMA, PACKING_SCHEMA, SCORED_SCHEMA
from pipelines.rounds.config import SelectionConfig
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import WriteManifest, run_job
from pipelines.stages.packing import PACKING, CountPacking
from pipelines.stages.random_baseline import RandomBaseline, baseline_seed
from pipelines.stages.score_inference import (
    E_HULL,
    ERROR,
    EVALUATIONS,
    PASSED,
    CompositionalHandler,
    JaxEnsembleHandler,
    ModelOfPackage,
    ScreeningHandler,
)
from pipelines.stages.searched_compositions import NameCompositions, of_framework
from pipelines.store.records import Manifest
from pipelines.store.store import ROW_GROUP


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config
    candidates = job.input("generate")
    members = {framework: _members(job, framework) for framework in config.trained}
    progress.expect(candidates.rows("candidates"), "candidates")

    def build(pipeline: beam.Pipeline) -> None:
        rows, counts, dead, packing = [], [], [], []
        read = pipeline | "Candidates" >> ReadTable(root, candidates, "candidates")
        for framework in config.frameworks:
            own = read
            if config.searches:
                own |= f"Only_{framework}" >> beam.Map(of_framework, framework).with_output_types(pa.RecordBatch)
            if framework not in members:
                found = _score_by_model(job, own)
            elif framework == "structural":
                found = _score_crystals(job, own, members[framework])
            else:
                found = _score_compositions(job, own, members[framework])
            rows += found.rows
            counts += found.counts
            dead += found.dead
            packing += found.packing
        scored = (
            rows | "All" >> beam.Flatten() | "Columns" >> row_wise(ToScored()).with_outputs(tags.COUNTS, main="rows")
        )
        counts.append(scored[tags.COUNTS])
        files = [
            scored.rows | "Write" >> WriteTable(root, path, "scored", SCORED_SCHEMA, ("digest",), config.part_files),
            (*packing,)
            | "Packing" >> beam.Flatten(pipeline=pipeline)
            | "WritePacking" >> WriteTable(root, path, "packing", PACKING_SCHEMA, ("formula",), 1),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "scored", files, counts, dead)

    return run_job(job, build, {"members": max(map(len, members.values()), default=0)})


class _Scored(NamedTuple):
    """What the candidates of a framework became."""

    rows: list[beam.PCollection]
    counts: list[beam.PCollection]
    dead: list[beam.PCollection]
    packing: list[beam.PCollection]


def _members(job: Job, framework: Framework) -> list[str]:
    return member_addresses(job.store, job.input("train"), framework)[: job.config.ensemble_of(framework)[0]]


def _score_compositions(job: Job, candidates: beam.PCollection, members: list[str]) -> _Scored:
    named = candidates | "Compositions" >> row_wise(NameCompositions()).with_outputs(tags.COUNTS, main="rows")
    placed = named.rows | "CompositionHull" >> row_wise(HullEnergies(job.store.root, job.round - 1)).with_outputs(
        tags.COUNTS, main="rows"
    )
    found = measured(placed.rows, "PredictCompositions", CompositionalHandler(members), network_hints(job.flags))
    counts = [named[tags.COUNTS], placed[tags.COUNTS], found[tags.COUNTS]]
    return _Scored([found.rows], counts, [found[tags.DEAD]], [])


def _score_by_model(job: Job, candidates: beam.PCollection) -> _Scored:
    """By the model of an installed package: every crystal once, as it was proposed."""
    placed, counts, packing = _placed(job, candidates)
    handler = whole_model(job, [])
    found = measured(placed, "Predict", handler, network_hints(job.flags))
    return _Scored([found.rows], [*counts, found[tags.COUNTS]], [found[tags.DEAD]], [packing])


def whole_model(job: Job, members: list[str]) -> JaxEnsembleHandler | ModelOfPackage:
    """What predicts crystals in full: all members at 20 volumes, or the model of an installed package."""
    scoring = job.config.scoring
    if "structural" in job.config.trained:
        return JaxEnsembleHandler(members, scoring.over_volumes)
    make_model(scoring.model, scoring.model_identity)  # another one is complained of before any worker begins
    return ModelOfPackage(scoring.model, scoring.model_identity, references(job.store.root))


def _placed(job: Job, candidates: beam.PCollection) -> tuple[beam.PCollection, list, beam.PCollection]:
    """(candidates with their crystals and the hull's energies, counts, packing)."""
    expanded = candidates | "Expand" >> beam.ParDo(ExpandCandidates(job.store.root, job.round)).with_output_types(
        pa.RecordBatch, **tags.HINTS, **{PACKING: tuple[str, tuple[int, int]]}
    ).with_outputs(tags.COUNTS, PACKING, main="rows")
    packing = expanded[PACKING] | "CountPacking" >> CountPacking()
    placed = expanded.rows | "Hull" >> row_wise(HullEnergies(job.store.root, job.round - 1)).with_outputs(
        tags.COUNTS, main="rows"
    )
    return placed.rows, [expanded[tags.COUNTS], placed[tags.COUNTS]], packing


def _score_crystals(job: Job, candidates: beam.PCollection, members: list[str]) -> _Scored:
    settings = job.config.scoring
    cascade = settings.cascade
    full = whole_model(job, members)
    hints = network_hints(job.flags)
    placed, counts, packing = _placed(job, candidates)
    if not cascade.enabled:
        whole = measured(placed, "Predict", full, hints)
        rows, parts = [whole.rows], [whole]
    else:
        cheap = ScreeningHandler(
            members,
            job.config.selection.threshold,
            cascade,
            shipped_addresses("compositional"),
            looks_of_batch(cascade.second_looks, job.input("generate").rows("candidates")),
        )
        screened = measured(placed, "Screen", cheap, hints)
        # In full: those that may be chosen, and those that chance will choose to compare them with.
        drawn = screened.rows | "Baseline" >> RandomBaseline(
            job.config.selection.random_baseline, baseline_seed(job, "structural")
        )
        chosen = [drawn, *(screened.rows | "ToRefine" >> ToRefine(cascade, job.config.selection))]
        worthy, _ = (
            [
                rows | f"Unpredicted{k}" >> beam.Map(unpredicted).with_output_types(pa.RecordBatch)
                for k, rows in enumerate(chosen)
            ]
            | "Worthy" >> beam.Flatten()
            | "Once" >> KeepTop("digest", 1, ("digest",), "", buckets=job.config.part_files)
        )
        refined = measured(worthy, "Predict", full, hints, counted=False)
        others = screened.rows | "NotRefined" >> beam.Map(not_refined, beam.pvalue.AsList(worthy)).with_output_types(
            pa.RecordBatch
        )
        rows, parts = [others, refined.rows], [screened, refined]
    counts += [part[tags.COUNTS] for part in parts]
    return _Scored(rows, counts, [part[tags.DEAD] for part in parts], [packing])


def looks_of_batch(looks: int, candidates: int) -> int:
    """How many rows of a batch may be looked at, for so many of all candidates: twice an equal share, since the lowest
    stand together, by chemical system."""
    return -(-2 * looks * ROW_GROUP // max(1, candidates))


def row_wise(step: beam.DoFn) -> beam.ParDo:
    return beam.ParDo(step).with_output_types(pa.RecordBatch, **tags.HINTS)


def measured(
    batches: beam.PCollection, label: str, handler, hints: dict[str, str], counted: bool = True, stage: str = "score"
) -> beam.pvalue.DoOutputsTuple:
    """Batches with the handler's predictions and e_above_hull; failures on the tags DEAD and COUNTS.

    stage: that asks. counted: whether these rows are its progress.
    """
    predicted = batches | label >> RunInference(handler).with_output_types(pa.RecordBatch).with_resource_hints(**hints)
    return predicted | f"{label}Measured" >> row_wise(Measured(counted, stage)).with_outputs(
        tags.COUNTS, tags.DEAD, main="rows"
    )


@beam.typehints.with_output_types(pa.RecordBatch)
class ExpandCandidates(beam.DoFn):
    """Candidate batches -> the same with CRYSTAL_FIELDS; crystals that cannot exist are rejected by their reason.

    Compositions of random structures go to the tag PACKING.
    """

    def __init__(self, root: str, round_: int):
        self.root, self.round = root, round_

    def setup(self) -> None:
        self.parents = candidate_parents(self.root, self.round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        crystals = try_expand(batch, self.parents)
        reasons = [invalid_reason(crystal) for crystal in crystals]
        good = [crystal for crystal, reason in zip(crystals, reasons, strict=True) if crystal and reason is None]
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        for reason in filter(None, reasons):
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), 1))
        for row in np.flatnonzero(batch["generator"].to_numpy() == RANDOM_SEARCH).tolist():
            begun = batch["formula"][row].as_py(), (1, int(crystals[row] is None))
            yield beam.pvalue.TaggedOutput(PACKING, begun)
        if good:
            yield with_crystals(batch.filter(pa.array([reason is None for reason in reasons])), good)


def with_crystals(batch: pa.RecordBatch, crystals: Sequence[Crystal]) -> pa.RecordBatch:
    """The batch with CRYSTAL_FIELDS; ids are the candidates' digests in hex."""
    arrays = {"id": pa.array([digest.hex() for digest in batch["digest"].to_pylist()]), **crystals_to_arrays(crystals)}
    for field in CRYSTAL_FIELDS:
        batch = batch.append_column(field, arrays[field.name])
    return batch


@beam.typehints.with_output_types(pa.RecordBatch)
class HullEnergies(beam.DoFn):
    """Adds e_hull, the hull's energy at each composition; rejects compositions that the hull cannot hold."""

    def __init__(self, root: str, hull_round: int):
        self.root, self.hull_round = root, hull_round

    def setup(self) -> None:
        self.hull = hull_vertices(self.root, self.hull_round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        counts = atom_counts(batch["numbers"])
        measurable = self.hull.has_references(counts)
        if not measurable.all():
            n = int((~measurable).sum())
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected("missing_reference"), n))
            batch, counts = batch.filter(pa.array(measurable)), counts[measurable]
        if batch.num_rows:
            with timer("hull"):
                yield batch.append_column(E_HULL, pa.array(self.hull.e_hull(counts)))


@beam.typehints.with_output_types(pa.RecordBatch)
class Measured(beam.DoFn):
    """Predicted batches with e_above_hull, which keep their crystals; rows without prediction become dead letters.

    advances: whether these rows are the progress of `stage`, or have been before.
    """

    def __init__(self, advances: bool, stage: str):
        self.advances, self.stage = advances, stage

    def process(self, batch: pa.RecordBatch) -> Iterator:
        if self.advances:
            progress.advance(batch.num_rows)
        failed = np.flatnonzero(batch[ERROR].is_valid())
        letters = [
            dead_letter(
                self.stage, batch["id"][row].as_py(), ValueError(batch[ERROR][row].as_py()), batch.slice(row, 1)
            )
            for row in failed.tolist()
        ]
        yield from as_dead(letters)
        batch = batch.filter(batch[ERROR].is_null())
        if batch.num_rows:
            yield batch.append_column("e_above_hull", pc.subtract(batch["median"], batch[E_HULL]))


class ToRefine(beam.PTransform):
    """Screened rows -> PCollections of those that selection may want, which can share rows.

    By the screen's value e_above_hull - kappa * iqr, the lowest `refine`, and where the budget is larger the best that
    fill it within the limits per formula and system; by its spread, the most uncertain that may be explored: their
    share of `refine`, or as many as will be chosen.
    """

    def __init__(self, cascade: CascadeConfig, selection: SelectionConfig):
        super().__init__()
        self.cascade, self.selection = cascade, selection

    def expand(self, screened):
        refine, settings = self.cascade.refine, self.selection
        n_explored = explore_budget(settings.budget, settings.explore)
        valued = screened | "Passed" >> beam.Map(passed, settings, self.cascade.second_margin).with_output_types(
            pa.RecordBatch
        )
        chosen = [(valued | "Lowest" >> KeepTop(None, refine, (VALUE, "digest"), ""))[0]]
        if settings.budget > refine:  # less than all of it would not do: some may be taken to explore
            chosen.append(_top_within(valued, "ToFill", settings.budget, settings.per_formula, settings, VALUE))
        if n_explored:
            likely = screened | "Likely" >> beam.Map(uncertain, settings.threshold).with_output_types(pa.RecordBatch)
            n = max(n_explored, round(settings.explore * refine))
            chosen.append(_top_within(likely, "ToExplore", n, 1, settings, UNCERTAINTY))
        return chosen


VALUE = "value"  # acquisition value of the screen, eV/atom
UNCERTAINTY = "uncertainty"  # minus its interquartile range, eV/atom


def _top_within(
    rows: beam.PCollection, label: str, n: int, per_formula: int, settings: SelectionConfig, column: str
) -> beam.PCollection:
    """The n lowest by a column, within the limits per formula and system."""
    by = (column, "digest")
    of_formula, _ = rows | f"{label}OfFormula" >> KeepTop("formula", per_formula, by, "")
    of_system, _ = of_formula | f"{label}OfSystem" >> KeepTop("chemsys", settings.per_chemsys, by, "")
    return (of_system | label >> KeepTop(None, n, by, ""))[0]


def passed(batch: pa.RecordBatch, settings: SelectionConfig, margin: float) -> pa.RecordBatch:
    """The rows that passed the screen, or whose spread brings them as near, with `value`."""
    iqr = batch["iqr"].to_numpy()
    value = acquisition(batch["e_above_hull"].to_numpy(), iqr, settings.kappa)
    kept = batch[PASSED].to_numpy(zero_copy_only=False)
    if settings.kappa:
        kept = kept | ((iqr > 0) & (value <= settings.threshold + margin))
    return batch.append_column(VALUE, pa.array(value)).filter(pa.array(kept))


def uncertain(batch: pa.RecordBatch, threshold: float) -> pa.RecordBatch:
    """The rows that the screen's spread would bring within the threshold, with `uncertainty`."""
    iqr = batch["iqr"].to_numpy()
    likely = (iqr > 0) & explorable(batch["e_above_hull"].to_numpy(), iqr, threshold)
    return batch.append_column(UNCERTAINTY, pa.array(-iqr)).filter(pa.array(likely))


def unpredicted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Screened rows as they were before, but for the evaluations they have cost."""
    before = [*CANDIDATE_SCHEMA.names, *(field.name for field in CRYSTAL_FIELDS), E_HULL, EVALUATIONS]
    return batch.select(before)


def not_refined(batch: pa.RecordBatch, refined: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows that no batch of `refined` (a side input) holds."""
    taken = {digest for rows in refined for digest in rows["digest"].to_pylist()}
    return batch.filter(pa.array([digest not in taken for digest in batch["digest"].to_pylist()], pa.bool_()))


@beam.typehints.with_output_types(pa.RecordBatch)
class ToScored(beam.DoFn):
    """Measured batches -> SCORED_SCHEMA. Tallies the evaluations that they have cost."""

    def process(self, batch: pa.RecordBatch) -> Iterator:
        yield beam.pvalue.TaggedOutput(
            tags.COUNTS, (tags.tally("evaluations"), pc.sum(batch[EVALUATIONS]).as_py() or 0)
        )
        yield batch.select(SCORED_SCHEMA.names).cast(SCORED_SCHEMA)
