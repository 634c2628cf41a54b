"""snapshot: known crystals -> entries on the evaluator's scale. Crystals without labels on it are evaluated first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from dft.evaluators.evaluator import Evaluator
from dft.evaluators.make import make_evaluator
from dft.jobs.folders import ENDED
from dft.names import is_engine
from dft.tables import protocol_json
from gnome_core.compositions.formulas import NUMBERS, within
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import Entry, Rejected, read_snapshot, read_table
from pipelines.beam import progress, tags
from pipelines.beam.dead_letters import DeadLetter, write_letters
from pipelines.beam.options import network_hints
from pipelines.beam.runners import run_pipeline
from pipelines.beam.tables import ReadFiles, WriteTable, write_parts
from pipelines.errors import JobsPending, UserError
from pipelines.evaluation.batches import Batches, EvaluateBatch, evaluate_batches, write_batches
from pipelines.evaluation.jobs import SHARD, ReadJobs, WriteJobs, check_library, job_folders, read_jobs, run_waiting
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import FromDriver, WriteManifest, run_job
from pipelines.stages.snapshot_entries import (
    UNLABELLED_SCHEMA,
    KeepEntries,
    Snapshot,
    ToSnapshotEntries,
    added_references,
    as_jobs,
    letters_of,
    missing_reference,
    results_of_elements,
    unlabelled_crystals,
)
from pipelines.stages.snapshot_labelled import checked_entries
from pipelines.stages.snapshot_recompute import labels_of, missing_elements, table_of_entries, worth_recomputing
from pipelines.store.records import Manifest


def run(job: Job) -> Manifest:
    settings, source, elements = job.config.evaluation, job.config.snapshot, job.config.snapshot_elements
    evaluator = make_evaluator(settings.evaluator, settings.relaxation(), job.config.dft)
    table = table_of_entries(source, elements)
    entries = None
    if table is not None and table["scale"].unique().to_pylist() == [evaluator.scale]:
        entries, items = checked_entries(table, source, evaluator.scale)
    else:
        items = list(read_snapshot(source) if table is None else read_table(table, source))
    totals = _totals(items)
    if elements is not None:
        items, outside = _within(items, elements)
        if entries is not None:
            entries = entries.filter(pa.array(within(entries["chemsys"].to_pylist(), elements)))
        totals[tags.rejected("other_elements")] = outside
    letters = letters_of(items)
    if len(letters) == len(items):
        of_elements = f" of {'-'.join(elements)}" if elements is not None else ""
        raise UserError(
            f"{source}: no usable crystal{of_elements} among {totals[tags.IN]} rows{_reasons(letters)}; see "
            "`gnome init --help`"
        )
    if entries is not None and not job.config.recompute:
        return _run_labelled(job, entries, letters, totals, evaluator.scale)
    crystals, repeated = unlabelled_crystals(items, protocol_json(evaluator.protocol))
    totals[tags.rejected("same_crystal")] = repeated
    kept = ENTRY_SCHEMA.empty_table()
    if job.config.recompute:
        labels = None if table is None else {item.id: item.e_form_per_atom for item in items if isinstance(item, Entry)}
        crystals, kept = _chosen(job, crystals, entries, labels, totals)
    if is_engine(settings.evaluator):
        more = missing_elements(crystals, UNLABELLED_SCHEMA, protocol_json(evaluator.protocol))
        totals[tags.IN] += len(more)
        crystals = pa.concat_tables([crystals, more]).combine_chunks()
    manifest = _run_evaluated(job, evaluator, crystals, kept, letters, totals)
    return manifest if entries is not None else _with_energies(manifest, items)


def _with_energies(manifest: Manifest, items: Sequence[Entry | Rejected]) -> Manifest:
    """The manifest with how many crystals came with energies: labels kept beside ours, or others on an untold scale."""
    entries = [item for item in items if isinstance(item, Entry)]
    found = {
        "labels_kept": sum(entry.e_form_per_atom is not None for entry in entries),
        "energies_unused": sum(bool(entry.unused_energies) for entry in entries),
    }
    return manifest.model_copy(update={"metrics": {**manifest.metrics, **found}})


def _within(items: Sequence[Entry | Rejected], elements: Collection[str]) -> tuple[list[Entry | Rejected], int]:
    """(what was rejected and the crystals of these elements alone, how many others there were)."""
    allowed = {NUMBERS[symbol] for symbol in elements}
    kept = [item for item in items if isinstance(item, Rejected) or allowed.issuperset(item.crystal.numbers.tolist())]
    return kept, len(items) - len(kept)


def _check_references(job: Job, tables: Sequence[pa.Table], scale: str) -> set[int]:
    """The elements of which the tables hold a crystal. Raises UserError for one asked for that they do not."""
    elements = {row[0] for table in tables for row in table["numbers"].to_pylist() if len(set(row)) == 1}
    missing = [symbol for symbol in job.config.snapshot_elements or () if NUMBERS[symbol] not in elements]
    if missing:
        raise UserError(
            f"snapshot_elements: neither {job.config.snapshot} nor the package has a crystal of {', '.join(missing)} "
            f"alone on {scale}, which formation energies are measured against; add one to the snapshot, or leave the "
            "element out"
        )
    return elements


def _totals(items: Sequence[Entry | Rejected]) -> dict[str, int]:
    return {tags.IN: len(items)} | Counter(tags.dead(item.reason) for item in items if isinstance(item, Rejected))


def _reasons(letters: Sequence[DeadLetter]) -> str:
    reasons = Counter(letter.reason for letter in letters)
    return f" ({', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))})" if reasons else ""


def _run_labelled(
    job: Job, entries: pa.Table, letters: Sequence[DeadLetter], totals: dict[str, int], scale: str
) -> Manifest:
    """Nothing is left to compute: the driver, which has read and checked every row, writes them too."""
    store, path = job.store, job.attempt.path
    added = added_references(entries, scale)
    elements = _check_references(job, [entries, added], scale)
    numbers = entries["numbers"].to_pylist()
    reasons = [missing_reference(row, elements) for row in numbers]
    kept = entries.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    totals |= Counter(tags.rejected(reason) for reason in reasons if reason)
    written = [
        *write_parts(store, path, "entries", kept, ("id",), job.config.part_files),
        *write_parts(store, path, "references", added, ("id",), 1),
        *write_letters(store, path, letters),
    ]

    def build(pipeline: beam.Pipeline) -> None:
        files = pipeline | "Files" >> FromDriver(written)
        counts = pipeline | "Counts" >> beam.Create(list(totals.items())).with_output_types(tuple[str, int])
        pipeline | "Manifest" >> WriteManifest(store.root, path, "entries", [files], [counts])

    return run_job(job, build, {"evaluated": 0, "references_added": len(added)})


def _chosen(
    job: Job,
    crystals: pa.Table,
    entries: pa.Table | None,
    labels: Mapping[str, float | None] | None,
    totals: dict[str, int],
) -> tuple[pa.Table, pa.Table]:
    """(crystals to compute again, entries kept as they are: those of a snapshot on the evaluator's scale)."""
    chosen = worth_recomputing(
        crystals["numbers"].to_pylist(), labels_of(crystals, labels), job.config.generation.elements
    )
    rest = crystals.filter(pa.array(~chosen))
    if entries is not None:
        # The original of a chosen one stays too, in case it is the lower of the two.
        return crystals.filter(pa.array(chosen)), entries.filter(pc.is_in(entries["id"], crystals["entry"]))
    totals[tags.rejected("not_recomputed")] = len(rest)
    return crystals.filter(pa.array(chosen)), ENTRY_SCHEMA.empty_table()


def _run_evaluated(
    job: Job,
    evaluator: Evaluator,
    crystals: pa.Table,
    kept: pa.Table,
    letters: Sequence[DeadLetter],
    totals: dict[str, int],
) -> Manifest:
    store, root, path = job.store, job.store.root, job.attempt.path
    settings, dft = job.config.evaluation, job.config.dft
    scale, protocol = evaluator.scale, protocol_json(evaluator.protocol)
    added = added_references(crystals, scale)
    _check_references(job, [crystals, kept, added], scale)
    batches = write_batches(store, path, crystals, settings.batch_size)
    before = store.write_table(f"{path}/before.parquet", "before", kept)
    if is_engine(settings.evaluator):
        _run_jobs(job, crystals, batches)
    written = [batches.file, before, *write_letters(store, path, letters)]
    progress.expect(len(crystals), "crystals")
    snapshot = Snapshot(root, batches.file.path, before.path, added, scale)

    def build(pipeline: beam.Pipeline) -> None:
        dead = []
        counts = [pipeline | "Counts" >> beam.Create(list(totals.items())).with_output_types(tuple[str, int])]
        if is_engine(settings.evaluator):
            done = read_jobs(pipeline, batches, ReadJobs(root, settings.evaluator, dft))
            dead.append(done[tags.DEAD])
            counts.append(done[tags.COUNTS] | "Outcomes" >> beam.Filter(_is_outcome))
        else:
            evaluate = EvaluateBatch(root, settings.evaluator, settings.relaxation(), protocol)
            done = evaluate_batches(pipeline, batches, evaluate, network_hints(job.flags))
        results = done.results
        elements = beam.pvalue.AsList(
            results | "Elements" >> beam.Map(results_of_elements).with_output_types(pa.RecordBatch)
        )
        made = results | "ToEntries" >> beam.ParDo(ToSnapshotEntries(snapshot), elements).with_output_types(
            pa.RecordBatch, **tags.HINTS
        ).with_outputs(tags.COUNTS, main="rows")
        again = (
            pipeline
            | "Kept" >> ReadFiles(root, [before])
            | "KeepEntries" >> beam.ParDo(KeepEntries(snapshot), elements)
        )
        entries = (made.rows, again) | "Entries" >> beam.Flatten()
        files = [
            entries | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), job.config.part_files),
            pipeline | "Files" >> FromDriver([*written, *write_parts(store, path, "references", added, ("id",), 1)]),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", files, [*counts, made[tags.COUNTS]], dead)

    return run_job(job, build, {"evaluated": len(crystals), "references_added": len(added)})


def _run_jobs(job: Job, crystals: pa.Table, batches: Batches) -> None:
    """Emit a job for every crystal and see that all end. Raises JobsPending where they are to run elsewhere."""
    name, dft = job.config.evaluation.evaluator, job.config.dft
    evaluator = make_evaluator(name, job.config.evaluation.relaxation(), dft)
    protocol = protocol_json(evaluator.protocol)
    check_library(name, dft, sorted({z for numbers in crystals["numbers"].to_pylist() for z in numbers}))

    def emit(pipeline: beam.Pipeline) -> None:
        (
            pipeline
            | "Crystals" >> batches.read(at_least=SHARD)
            | "Jobs" >> beam.Map(as_jobs, name, protocol).with_output_types(pa.RecordBatch)
            | "WriteJobs" >> beam.ParDo(WriteJobs(job.store.root, dft))
        )

    run_pipeline(job.flags, emit)
    ids = crystals["id"].to_pylist()
    if job.run_jobs:
        run_waiting(job.store, name, dft, ids)
    folders = job_folders(job.store, name)
    waiting = sum(folders[id_].state not in ENDED for id_ in ids)
    if waiting:
        raise JobsPending(
            f"{waiting} of {len(ids)} jobs of the snapshot wait in {folders.root}; `gnome dft run {job.store.root}` or "
            f"`gnome dft submit {job.store.root}` runs them, then `gnome round resume {job.store.root}` goes on"
        )


def _is_outcome(count: tuple[str, int]) -> bool:
    return count[0] != tags.IN  # the stage counts what comes in by itself
