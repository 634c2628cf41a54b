"""score: candidates -> predicted formation energies and distances to the hull, through RunInference."""

from __future__ import annotations

from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.inference.base import RunInference

from gnome_core.models.shipped import Framework
from pipelines import progress, tags
from pipelines.errors import UserError
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.members import member_addresses, shipped_addresses
from pipelines.options import network_hints
from pipelines.round import Job
from pipelines.schemas import PACKING_SCHEMA, SCORED_SCHEMA
from pipelines.stages.select import baseline_seed
from pipelines.store import Manifest
from pipelines.transforms.compositions import NameCompositions, of_framework
from pipelines.transforms.inference import CompositionalHandler, JaxEnsembleHandler, ScreeningHandler
from pipelines.transforms.score import (
    PACKING,
    CountPacking,
    ExpandCandidates,
    HullEnergies,
    Measured,
    ToScored,
    not_refined,
    passed,
    unpredicted,
)
from pipelines.transforms.select import RandomBaseline
from pipelines.transforms.top import KeepTop


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config
    candidates = job.input("generate")
    members = {framework: _members(job, framework) for framework in config.frameworks}
    progress.expect(candidates.rows("candidates"), "candidates")

    def build(pipeline: beam.Pipeline) -> None:
        rows, counts, dead, packing = [], [], [], []
        read = pipeline | "Candidates" >> ReadTable(root, candidates, "candidates")
        for framework in config.frameworks:
            own = read
            if config.searches:
                own |= f"Only_{framework}" >> beam.Map(of_framework, framework).with_output_types(pa.RecordBatch)
            if framework == "structural":
                found = _score_crystals(job, own, members[framework])
            else:
                found = _score_compositions(job, own, members[framework])
            rows += found.rows
            counts += found.counts
            dead += found.dead
            packing += found.packing
        scored = rows | "All" >> beam.Flatten() | "Columns" >> _pardo(ToScored()).with_outputs(tags.COUNTS, main="rows")
        counts.append(scored[tags.COUNTS])
        files = [
            scored.rows | "Write" >> WriteTable(root, path, "scored", SCORED_SCHEMA, ("digest",), config.part_files),
            (*packing,)
            | "Packing" >> beam.Flatten(pipeline=pipeline)
            | "WritePacking" >> WriteTable(root, path, "packing", PACKING_SCHEMA, ("formula",), 1),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "scored", files, counts, dead)

    return run_job(job, build, {"members": max(map(len, members.values()))})


class _Scored(NamedTuple):
    """What the candidates of a framework became."""

    rows: list[beam.PCollection]
    counts: list[beam.PCollection]
    dead: list[beam.PCollection]
    packing: list[beam.PCollection]


def _members(job: Job, framework: Framework) -> list[str]:
    """Raises UserError where the last round trained none."""
    trained = job.input("train")
    paths = member_addresses(job.store, trained, framework)[: job.config.ensemble_of(framework)[0]]
    if not paths:
        raise UserError(
            f"round {trained.round} trained no {framework} members, for its framework was another; a store keeps the "
            f'framework it was made with: `gnome init` a new one with framework = "{job.config.framework}"'
        )
    return paths


def _score_compositions(job: Job, candidates: beam.PCollection, members: list[str]) -> _Scored:
    named = candidates | "Compositions" >> _pardo(NameCompositions()).with_outputs(tags.COUNTS, main="rows")
    placed = named.rows | "CompositionHull" >> _pardo(HullEnergies(job.store.root, job.round - 1)).with_outputs(
        tags.COUNTS, main="rows"
    )
    found = _measured(placed.rows, "PredictCompositions", CompositionalHandler(members), network_hints(job.flags))
    counts = [named[tags.COUNTS], placed[tags.COUNTS], found[tags.COUNTS]]
    return _Scored([found.rows], counts, [found[tags.DEAD]], [])


def _score_crystals(job: Job, candidates: beam.PCollection, members: list[str]) -> _Scored:
    root, last, settings = job.store.root, job.round - 1, job.config.scoring
    cascade = settings.cascade
    full = JaxEnsembleHandler(members, settings.over_volumes)
    hints = network_hints(job.flags)
    expanded = candidates | "Expand" >> beam.ParDo(ExpandCandidates(root, last)).with_output_types(
        pa.RecordBatch, **tags.HINTS, **{PACKING: tuple[str, tuple[int, int]]}
    ).with_outputs(tags.COUNTS, PACKING, main="rows")
    packing = expanded[PACKING] | "CountPacking" >> CountPacking()
    placed = expanded.rows | "Hull" >> _pardo(HullEnergies(root, last)).with_outputs(tags.COUNTS, main="rows")
    if not cascade.enabled:
        whole = _measured(placed.rows, "Predict", full, hints)
        rows, parts = [whole.rows], [whole]
    else:
        cheap = ScreeningHandler(members, job.config.selection.threshold, cascade, shipped_addresses("compositional"))
        screened = _measured(placed.rows, "Screen", cheap, hints)
        # In full: the lowest that may be chosen, and those that chance will choose to compare them with.
        lowest, _ = (
            screened.rows
            | "Passed" >> beam.Map(passed).with_output_types(pa.RecordBatch)
            | "Lowest" >> KeepTop(None, cascade.refine, ("e_above_hull", "digest"), "")
        )
        drawn = screened.rows | "Baseline" >> RandomBaseline(
            job.config.selection.random_baseline, baseline_seed(job, "structural")
        )
        worthy, _ = (
            (
                lowest | "LowestRows" >> beam.Map(unpredicted).with_output_types(pa.RecordBatch),
                drawn | "DrawnRows" >> beam.Map(unpredicted).with_output_types(pa.RecordBatch),
            )
            | "Worthy" >> beam.Flatten()
            | "Once" >> KeepTop("digest", 1, ("digest",), "", buckets=job.config.part_files)
        )
        refined = _measured(worthy, "Predict", full, hints, counted=False)
        others = screened.rows | "NotRefined" >> beam.Map(not_refined, beam.pvalue.AsList(worthy)).with_output_types(
            pa.RecordBatch
        )
        rows, parts = [others, refined.rows], [screened, refined]
    counts = [expanded[tags.COUNTS], placed[tags.COUNTS], *(part[tags.COUNTS] for part in parts)]
    return _Scored(rows, counts, [part[tags.DEAD] for part in parts], [packing])


def _pardo(step: beam.DoFn) -> beam.ParDo:
    return beam.ParDo(step).with_output_types(pa.RecordBatch, **tags.HINTS)


def _measured(
    batches: beam.PCollection, label: str, handler, hints: dict[str, str], counted: bool = True
) -> beam.pvalue.DoOutputsTuple:
    """Batches with the handler's predictions and e_above_hull; failures on the tags DEAD and COUNTS."""
    predicted = batches | label >> RunInference(handler).with_output_types(pa.RecordBatch).with_resource_hints(**hints)
    return predicted | f"{label}Measured" >> _pardo(Measured(counted)).with_outputs(tags.COUNTS, tags.DEAD, main="rows")
