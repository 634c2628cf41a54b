"""score: candidates -> predicted formation energies and distances to the hull, through RunInference."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.inference.base import RunInference

from pipelines import progress, tags
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import ReadTable, WriteTable
from pipelines.members import member_addresses, shipped_addresses
from pipelines.options import network_hints
from pipelines.round import Job
from pipelines.schemas import PACKING_SCHEMA, SCORED_SCHEMA
from pipelines.stages.select import baseline_seed
from pipelines.store import Manifest
from pipelines.transforms.inference import JaxEnsembleHandler, ScreeningHandler
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
    root, path, last = job.store.root, job.attempt.path, job.round - 1
    settings, cascade = job.config.scoring, job.config.scoring.cascade
    members = member_addresses(job.store, job.input("train"))[: settings.members]
    candidates = job.input("generate")
    progress.expect(candidates.rows("candidates"), "candidates")
    full = JaxEnsembleHandler(members, settings.over_volumes)
    cheap = ScreeningHandler(members, job.config.selection.threshold, cascade, shipped_addresses("compositional"))
    hints = network_hints(job.flags)

    def build(pipeline: beam.Pipeline) -> None:
        expanded = (
            pipeline
            | "Candidates" >> ReadTable(root, candidates, "candidates")
            | "Expand"
            >> beam.ParDo(ExpandCandidates(root, last))
            .with_output_types(pa.RecordBatch, **tags.HINTS, **{PACKING: tuple[str, tuple[int, int]]})
            .with_outputs(tags.COUNTS, PACKING, main="rows")
        )
        packing = expanded[PACKING] | "Packing" >> CountPacking()
        placed = expanded.rows | "Hull" >> _pardo(HullEnergies(root, last)).with_outputs(tags.COUNTS, main="rows")
        if not cascade.enabled:
            whole = _measured(placed.rows, "Predict", full, hints)
            rows, parts = [whole.rows], [whole]
        else:
            screened = _measured(placed.rows, "Screen", cheap, hints)
            # In full: the lowest that may be chosen, and those that chance will choose to compare them with.
            lowest, _ = (
                screened.rows
                | "Passed" >> beam.Map(passed).with_output_types(pa.RecordBatch)
                | "Lowest" >> KeepTop(None, cascade.refine, ("e_above_hull", "digest"), "")
            )
            drawn = screened.rows | "Baseline" >> RandomBaseline(
                job.config.selection.random_baseline, baseline_seed(job)
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
            others = screened.rows | "NotRefined" >> beam.Map(
                not_refined, beam.pvalue.AsList(worthy)
            ).with_output_types(pa.RecordBatch)
            rows, parts = [others, refined.rows], [screened, refined]
        scored = rows | "All" >> beam.Flatten() | "Columns" >> _pardo(ToScored()).with_outputs(tags.COUNTS, main="rows")
        files = [
            scored.rows
            | "Write" >> WriteTable(root, path, "scored", SCORED_SCHEMA, ("digest",), job.config.part_files),
            packing | "WritePacking" >> WriteTable(root, path, "packing", PACKING_SCHEMA, ("formula",), 1),
        ]
        counts = [step[tags.COUNTS] for step in (expanded, placed, *parts, scored)]
        pipeline | "Manifest" >> WriteManifest(root, path, "scored", files, counts, [p[tags.DEAD] for p in parts])

    return run_job(job, build, {"members": len(members)})


def _pardo(step: beam.DoFn) -> beam.ParDo:
    return beam.ParDo(step).with_output_types(pa.RecordBatch, **tags.HINTS)


def _measured(
    batches: beam.PCollection, label: str, handler, hints: dict[str, str], counted: bool = True
) -> beam.pvalue.DoOutputsTuple:
    """Batches with the handler's predictions and e_above_hull; failures on the tags DEAD and COUNTS."""
    predicted = batches | label >> RunInference(handler).with_output_types(pa.RecordBatch).with_resource_hints(**hints)
    return predicted | f"{label}Measured" >> _pardo(Measured(counted)).with_outputs(tags.COUNTS, tags.DEAD, main="rows")
