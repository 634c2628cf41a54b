"""snapshot: known crystals -> entries on the evaluator's scale. Crystals without labels on it are relaxed first."""

from __future__ import annotations

from collections import Counter

import apache_beam as beam
import pyarrow as pa

from dft.evaluator import make_evaluator
from dft.jobs import protocol_json
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from pipelines import progress, tags
from pipelines.dead_letters import dead_letter_batch
from pipelines.errors import UserError
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import WriteTable
from pipelines.round import Job
from pipelines.store import Manifest
from pipelines.transforms.evaluate import EvaluateBatch, evaluate_batches, fixed_batches
from pipelines.transforms.snapshot import (
    ToSnapshotEntries,
    added_references,
    labelled_entries,
    missing_reference,
    results_of_elements,
    unlabelled_crystals,
)


def run(job: Job) -> Manifest:
    settings = job.config.evaluation
    evaluator = make_evaluator(settings.evaluator, settings.relaxation())
    entries = labelled_entries(job.config.snapshot, evaluator.scale)
    if entries is not None:
        return _run_labelled(job, entries, evaluator.scale)
    return _run_unlabelled(job, evaluator.scale, protocol_json(evaluator.protocol))


def _run_labelled(job: Job, entries: pa.Table, scale: str) -> Manifest:
    root, path = job.store.root, job.attempt.path
    added = added_references(entries, scale)
    numbers = entries["numbers"].to_pylist()
    elements = {row[0] for row in (*numbers, *added["numbers"].to_pylist()) if len(set(row)) == 1}
    reasons = [missing_reference(row, elements) for row in numbers]
    kept = entries.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    batches = kept.combine_chunks().to_batches(max_chunksize=2_000)
    totals = Counter({tags.IN: len(entries)}) + Counter(tags.rejected(reason) for reason in reasons if reason)

    def build(pipeline: beam.Pipeline) -> None:
        rows = pipeline | "Entries" >> beam.Create(batches).with_output_types(pa.RecordBatch)
        references = pipeline | "Added" >> beam.Create(added.to_batches()).with_output_types(pa.RecordBatch)
        files = [
            rows | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), job.config.part_files),
            references | "WriteReferences" >> WriteTable(root, path, "references", ENTRY_SCHEMA, ("id",), 1),
        ]
        counts = pipeline | "In" >> beam.Create(list(totals.items())).with_output_types(tuple[str, int])
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", files, [counts])

    return run_job(job, build, {"evaluated": 0, "references_added": len(added)})


def _run_unlabelled(job: Job, scale: str, protocol: str) -> Manifest:
    root, path, settings = job.store.root, job.attempt.path, job.config.evaluation
    crystals, letters, repeated = unlabelled_crystals(job.config.snapshot, protocol)
    if not len(crystals):
        raise UserError(f"{job.config.snapshot}: no usable crystal among {len(letters)} rows; see `gnome init --help`")
    added = added_references(crystals, scale)
    scratch = f"{path}/crystals.parquet"
    job.store.write_table(scratch, "crystals", crystals)
    batches = fixed_batches(crystals.select(["id", "lattice", "frac_coords", "numbers"]), settings.batch_size)
    progress.expect(len(crystals), "crystals")
    totals = {tags.IN: len(crystals) + len(letters) + repeated, tags.rejected("same_crystal"): repeated}
    for letter in letters:
        totals[tags.dead(letter.reason)] = totals.get(tags.dead(letter.reason), 0) + 1

    def build(pipeline: beam.Pipeline) -> None:
        done = evaluate_batches(
            pipeline, batches, EvaluateBatch(root, settings.evaluator, settings.relaxation())
        ).results
        elements = done | "Elements" >> beam.Map(results_of_elements).with_output_types(pa.RecordBatch)
        made = done | "ToEntries" >> beam.ParDo(
            ToSnapshotEntries(root, scratch, added, scale), beam.pvalue.AsList(elements)
        ).with_output_types(pa.RecordBatch, **tags.HINTS).with_outputs(tags.COUNTS, main="rows")
        references = pipeline | "Added" >> beam.Create(added.to_batches()).with_output_types(pa.RecordBatch)
        dead = pipeline | "Letters" >> beam.Create([dead_letter_batch(letters)]).with_output_types(pa.RecordBatch)
        counts = pipeline | "Counts" >> beam.Create(list(totals.items())).with_output_types(tuple[str, int])
        files = [
            made.rows | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), job.config.part_files),
            references | "WriteReferences" >> WriteTable(root, path, "references", ENTRY_SCHEMA, ("id",), 1),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", files, [counts, made[tags.COUNTS]], [dead])

    return run_job(job, build, {"evaluated": len(crystals), "references_added": len(added)})
