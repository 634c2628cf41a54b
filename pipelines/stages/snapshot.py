"""snapshot: known crystals -> entries on the evaluator's scale. Crystals without labels on it are evaluated first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from dft.evaluators.evaluator import Evaluator
from dft.evaluators.make import make_evaluator
from dft.jobs.folders import ENDED
from dft.names import is_engine
from dft.tables import protocol_json
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import Entry, read_snapshot
from pipelines.beam import progress, tags
from pipelines.beam.dead_letters import DeadLetter, dead_letter_batch
from pipelines.beam.options import network_hints
from pipelines.beam.runners import run_pipeline
from pipelines.beam.tables import WriteTable, write_parts
from pipelines.errors import JobsPending, UserError
from pipelines.evaluation.batches import EvaluateBatch, evaluate_batches, fixed_batches
from pipelines.evaluation.jobs import ReadJobs, WriteJobs, check_library, job_folders, read_jobs, run_waiting
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import WriteManifest, run_job
from pipelines.stages.snapshot_entries import (
    UNLABELLED_SCHEMA,
    KeepEntries,
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
from pipelines.store.records import FileStat, Manifest

COLUMNS = ["id", "lattice", "frac_coords", "numbers"]


def run(job: Job) -> Manifest:
    settings, source = job.config.evaluation, job.config.snapshot
    evaluator = make_evaluator(settings.evaluator, settings.relaxation(), job.config.dft)
    table = table_of_entries(source)
    entries = None
    if table is not None and table["scale"].unique().to_pylist() == [evaluator.scale]:
        entries, items = checked_entries(table, source, evaluator.scale)
    else:
        items = list(read_snapshot(source))
    letters = letters_of(items)
    if len(letters) == len(items):
        raise UserError(
            f"{source}: no usable crystal among {len(letters)} rows{_reasons(letters)}; see `gnome init --help`"
        )
    if entries is not None and not job.config.recompute:
        return _run_labelled(job, entries, letters, evaluator.scale)
    crystals, repeated = unlabelled_crystals(items, protocol_json(evaluator.protocol))
    totals = _totals(len(items), letters) | {tags.rejected("same_crystal"): repeated}
    kept = ENTRY_SCHEMA.empty_table()
    if job.config.recompute:
        labels = None if table is None else {item.id: item.e_form_per_atom for item in items if isinstance(item, Entry)}
        crystals, kept = _chosen(job, crystals, entries, labels, totals)
    if is_engine(settings.evaluator):
        more = missing_elements(crystals, UNLABELLED_SCHEMA, protocol_json(evaluator.protocol))
        totals[tags.IN] += len(more)
        crystals = pa.concat_tables([crystals, more]).combine_chunks()
    return _run_evaluated(job, evaluator, crystals, kept, letters, totals)


def _totals(n_rows: int, letters: Sequence[DeadLetter]) -> dict[str, int]:
    return {tags.IN: n_rows} | Counter(tags.dead(letter.reason) for letter in letters)


def _reasons(letters: Sequence[DeadLetter]) -> str:
    reasons = Counter(letter.reason for letter in letters)
    return f" ({', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))})" if reasons else ""


def _run_labelled(job: Job, entries: pa.Table, letters: Sequence[DeadLetter], scale: str) -> Manifest:
    """Nothing is left to compute: the driver, which has read and checked every row, writes them too."""
    store, path = job.store, job.attempt.path
    added = added_references(entries, scale)
    numbers = entries["numbers"].to_pylist()
    elements = {row[0] for row in (*numbers, *added["numbers"].to_pylist()) if len(set(row)) == 1}
    reasons = [missing_reference(row, elements) for row in numbers]
    kept = entries.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    totals = _totals(len(entries) + len(letters), letters) | Counter(
        tags.rejected(reason) for reason in reasons if reason
    )
    written = [
        *write_parts(store, path, "entries", kept, ("id",), job.config.part_files),
        *write_parts(store, path, "references", added, ("id",), 1),
        *_write_letters(job, letters),
    ]

    def build(pipeline: beam.Pipeline) -> None:
        files = pipeline | "Files" >> beam.Create([stat.model_dump_json() for stat in written]).with_output_types(str)
        counts = pipeline | "Counts" >> beam.Create(list(totals.items())).with_output_types(tuple[str, int])
        pipeline | "Manifest" >> WriteManifest(store.root, path, "entries", [files], [counts])

    return run_job(job, build, {"evaluated": 0, "references_added": len(added)})


def _write_letters(job: Job, letters: Sequence[DeadLetter]) -> list[FileStat]:
    """Their table's file, from the driver: a letter holds up to 1 MiB, which no graph of a pipeline carries."""
    if not letters:
        return []
    rows = pa.Table.from_batches([dead_letter_batch(letters)])
    return [job.store.write_table(f"{job.attempt.path}/dead/as-read.parquet", "dead", rows)]


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
    root, path, settings, dft = job.store.root, job.attempt.path, job.config.evaluation, job.config.dft
    scale, protocol = evaluator.scale, protocol_json(evaluator.protocol)
    added = added_references(crystals, scale)
    asked = job.store.write_table(f"{path}/crystals.parquet", "crystals", crystals)
    if is_engine(settings.evaluator):
        _run_jobs(job, crystals)
    broken = _write_letters(job, letters)
    batches = fixed_batches(crystals.select(COLUMNS), settings.batch_size)
    progress.expect(len(crystals), "crystals")
    untouched = kept.filter(pc.invert(pc.is_in(kept["id"], crystals["entry"])))
    originals = kept.filter(pc.is_in(kept["id"], crystals["entry"]))
    elemental = pa.concat_tables([added, kept.filter(_is_element(kept))]).combine_chunks()

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
        made = results | "ToEntries" >> beam.ParDo(
            ToSnapshotEntries(root, asked.path, originals, elemental, scale), elements
        ).with_output_types(pa.RecordBatch, **tags.HINTS).with_outputs(tags.COUNTS, main="rows")
        again = (
            pipeline
            | "Kept" >> beam.Create(untouched.to_batches(max_chunksize=2_000)).with_output_types(pa.RecordBatch)
            | "KeepEntries" >> beam.ParDo(KeepEntries(elemental, scale), elements)
        )
        references = pipeline | "Added" >> beam.Create(added.to_batches()).with_output_types(pa.RecordBatch)
        entries = (made.rows, again) | "Entries" >> beam.Flatten()
        files = [
            entries | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), job.config.part_files),
            references | "WriteReferences" >> WriteTable(root, path, "references", ENTRY_SCHEMA, ("id",), 1),
            pipeline | "Files" >> beam.Create([stat.model_dump_json() for stat in broken]).with_output_types(str),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", files, [*counts, made[tags.COUNTS]], dead)

    manifest = run_job(job, build, {"evaluated": len(crystals), "references_added": len(added)})
    return manifest.model_copy(update={"files": [*manifest.files, asked]})


def _run_jobs(job: Job, crystals: pa.Table) -> None:
    """Emit a job for every crystal and see that all end. Raises JobsPending where they are to run elsewhere."""
    name, dft = job.config.evaluation.evaluator, job.config.dft
    evaluator = make_evaluator(name, job.config.evaluation.relaxation(), dft)
    jobs = as_jobs(crystals, name, protocol_json(evaluator.protocol))
    check_library(name, dft, sorted({z for numbers in crystals["numbers"].to_pylist() for z in numbers}))

    def emit(pipeline: beam.Pipeline) -> None:
        batches = jobs.combine_chunks().to_batches(max_chunksize=1_000)
        rows = pipeline | "Jobs" >> beam.Create(batches).with_output_types(pa.RecordBatch)
        rows | "WriteJobs" >> beam.ParDo(WriteJobs(job.store.root, dft))

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


def _is_element(entries: pa.Table) -> pa.Array:
    return pa.array([len(set(numbers)) == 1 for numbers in entries["numbers"].to_pylist()], pa.bool_())
