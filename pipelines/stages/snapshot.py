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
from dft.tables import FRAME_SCHEMA, protocol_json
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import Entry, Rejected
from pipelines.beam import progress, tags
from pipelines.beam.dead_letters import DeadLetter, write_letters
from pipelines.beam.options import network_hints
from pipelines.beam.runners import run_pipeline
from pipelines.beam.tables import ReadFiles, WriteTable, write_parts
from pipelines.errors import JobsPending, UserError
from pipelines.evaluation.batches import FRAMES, Batches, EvaluateBatch, evaluate_batches, write_batches
from pipelines.evaluation.jobs import ReadJobs, WriteJobs, check_library, read_jobs, run_waiting
from pipelines.reading.bucket_jobs import SHARD
from pipelines.reading.engine_jobs import engine_jobs
from pipelines.reading.schemas import MERGED_SCHEMA
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import FromDriver, WriteManifest, run_job
from pipelines.stages.snapshot_entries import (
    UNLABELLED_SCHEMA,
    KeepEntries,
    Snapshot,
    ToSnapshotEntries,
    added_references,
    as_jobs,
    elements_alone,
    elements_of,
    letters_of,
    referenced,
    references_of,
    relabelled,
    results_of_elements,
    unlabelled_crystals,
)
from pipelines.stages.snapshot_merged import REASON as SAME_STRUCTURE
from pipelines.stages.snapshot_merged import MergeStructures, merge_structures
from pipelines.stages.snapshot_recompute import (
    in_compounds_only,
    labels_of,
    missing_elements,
    without_entry,
    worth_recomputing,
)
from pipelines.stages.snapshot_sources import Source, origins, read_source, told_apart
from pipelines.stages.snapshot_survey import lost_references, survey
from pipelines.store.records import Manifest


def run(job: Job) -> Manifest:
    settings, elements = job.config.evaluation, job.config.snapshot_elements
    evaluator = make_evaluator(settings.evaluator, settings.relaxation(), job.config.dft)
    sources = told_apart([read_source(name, elements, evaluator.scale) for name in job.config.snapshots])
    items = [item for source in sources for item in source.items]
    totals = _totals(items, sum(source.outside for source in sources))
    letters = letters_of(items)
    if len(letters) == len(items):
        of_elements = f" of {'-'.join(elements)}" if elements is not None else ""
        raise UserError(
            f"{', '.join(job.config.snapshots)}: no usable crystal{of_elements} among {totals[tags.IN]} rows"
            f"{_reasons(letters)}; see `gnome init --help`"
        )
    given = [source.entries for source in sources if source.entries is not None]
    kept = pa.concat_tables([ENTRY_SCHEMA.empty_table(), *given]).combine_chunks()
    unlabelled = [source for source in sources if source.entries is None]
    asked = items if job.config.recompute else [item for source in unlabelled for item in source.crystals]
    crystals, repeated = unlabelled_crystals(asked, protocol_json(evaluator.protocol))
    if repeated:
        totals[tags.rejected("same_crystal")] = repeated
    if job.config.recompute:
        (source,) = sources
        labels = {entry.id: entry.e_form_per_atom for entry in source.crystals} if source.tabled else None
        crystals, kept = _chosen(job, crystals, source.entries, labels, totals)
    if is_engine(settings.evaluator):
        wanted = in_compounds_only(crystals, kept)
        more = missing_elements(wanted, UNLABELLED_SCHEMA, protocol_json(evaluator.protocol))
        totals[tags.IN] += len(more)
        crystals = pa.concat_tables([crystals, more]).combine_chunks()
    added = added_references(without_entry(crystals, kept), evaluator.scale)
    _check_references(job, [crystals, kept, added], evaluator.scale)
    for line in survey(sources, crystals, kept, added, evaluator, elements):
        progress.tell(line)
    places = origins(sources) if len(sources) > 1 else None
    if not len(crystals):
        manifest = _run_labelled(job, kept, added, letters, totals, places)
    else:
        manifest = _run_evaluated(job, evaluator, crystals, kept, added, letters, totals, places)
        for line in lost_references(manifest.counts.dead, crystals["numbers"].to_pylist()):
            progress.tell(line)
    manifest = _with_energies(manifest, unlabelled) if unlabelled else manifest
    corrections = sorted({source.corrections for source in sources} - {""})
    return _with(manifest, corrections=", ".join(corrections)) if corrections else manifest


def _with_energies(manifest: Manifest, sources: Sequence[Source]) -> Manifest:
    """The manifest with how many crystals came with energies: labels kept beside ours, or others on an untold scale."""
    entries = [entry for source in sources for entry in source.crystals]
    found = {
        "labels_kept": sum(entry.e_form_per_atom is not None for entry in entries),
        "energies_unused": sum(bool(entry.unused_energies) for entry in entries),
    }
    return _with(manifest, **found)


def _with(manifest: Manifest, **metrics: float | str) -> Manifest:
    return manifest.model_copy(update={"metrics": {**manifest.metrics, **metrics}})


def _check_references(job: Job, tables: Sequence[pa.Table], scale: str) -> None:
    """There is a crystal of every element that is asked for, and of those of some compound. Raises UserError."""
    numbers = [set(row) for table in tables for row in table["numbers"].to_pylist()]
    elements = elements_alone(numbers)
    sources = ", ".join(job.config.snapshots)
    missing = [symbol for symbol in job.config.snapshot_elements or () if NUMBERS[symbol] not in elements]
    if missing:
        raise UserError(
            f"snapshot_elements: neither {sources} nor the package has a crystal of {', '.join(missing)} alone on "
            f"{scale}, which formation energies are measured against; add one to the snapshot, or leave the element out"
        )
    compounds = [row for row in numbers if len(row) > 1]
    if compounds and not any(elements.issuperset(row) for row in compounds):
        missing = [SYMBOLS[z] for z in sorted(set().union(*compounds) - elements)]
        raise UserError(
            f"{sources}: formation energies of its compounds are measured against the elements, and neither it nor the "
            f"package has a crystal of {', '.join(missing)} alone on {scale}; add them, with `--snapshot FILE` once "
            "more, say"
        )


def _totals(items: Sequence[Entry | Rejected], outside: int) -> dict[str, int]:
    totals = {tags.IN: len(items) + outside, tags.rejected("other_elements"): outside}
    return totals | Counter(tags.dead(item.reason) for item in items if isinstance(item, Rejected))


def _reasons(letters: Sequence[DeadLetter]) -> str:
    reasons = Counter(letter.reason for letter in letters)
    return f" ({', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))})" if reasons else ""


def _run_labelled(
    job: Job,
    entries: pa.Table,
    added: pa.Table,
    letters: Sequence[DeadLetter],
    totals: dict[str, int],
    places: pa.Table | None,
) -> Manifest:
    """Nothing is left to compute: the driver, which has read and checked every row, writes them too."""
    store, path = job.store, job.attempt.path
    numbers = [*entries["numbers"].to_pylist(), *added["numbers"].to_pylist()]
    elements = elements_alone(numbers)
    parts = [referenced(batch, elements) for batch in entries.to_batches()]
    kept = pa.Table.from_batches([part for part, _ in parts], entries.schema)
    lost = [letter for _, others in parts for letter in others]
    totals |= Counter(tags.dead(letter.reason) for letter in lost)
    written = []
    if places is not None:
        kept, merged = merge_structures(_against_one(kept, added), places)
        totals[tags.rejected(SAME_STRUCTURE)] = len(merged)
        written += write_parts(store, path, "origins", places, ("id",), 1)
        written += write_parts(store, path, "merged", merged, ("id",), 1)
    written += [
        *write_parts(store, path, "entries", kept, ("id",), job.config.part_files),
        *write_parts(store, path, "references", added, ("id",), 1),
        *write_letters(store, path, [*letters, *lost]),
    ]

    def build(pipeline: beam.Pipeline) -> None:
        files = pipeline | "Files" >> FromDriver(written)
        counts = pipeline | "Counts" >> beam.Create(list(totals.items())).with_output_types(tuple[str, int])
        pipeline | "Manifest" >> WriteManifest(store.root, path, "entries", [files], [counts])

    return run_job(job, build, {"evaluated": 0, "references_added": len(added)})


def _against_one(entries: pa.Table, added: pa.Table) -> pa.Table:
    """The entries of several sources, each of which measured from elements of its own, against the lowest of all."""
    elemental = [batch for table in (entries, added) for batch in elements_of(table).to_batches()]
    if not len(entries):
        return entries
    references = references_of([], elemental, entries["scale"][0].as_py())
    return pa.Table.from_batches(list(relabelled(entries.combine_chunks().to_batches(), references)))


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
    added: pa.Table,
    letters: Sequence[DeadLetter],
    totals: dict[str, int],
    places: pa.Table | None,
) -> Manifest:
    store, root, path = job.store, job.store.root, job.attempt.path
    settings, dft = job.config.evaluation, job.config.dft
    scale, protocol = evaluator.scale, protocol_json(evaluator.protocol)
    batches = write_batches(store, path, crystals, settings.batch_size)
    before = store.write_table(f"{path}/before.parquet", "before", kept)
    if is_engine(settings.evaluator):
        _run_jobs(job, crystals, batches)
    written = [batches.file, before, *write_letters(store, path, letters)]
    placed = None if places is None else store.write_table(f"{path}/origins.parquet", "origins", places)
    written += [placed] if placed else []
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
        ).with_outputs(tags.COUNTS, tags.DEAD, main="rows")
        again = (
            pipeline
            | "Kept" >> ReadFiles(root, [before])
            | "KeepEntries"
            >> beam.ParDo(KeepEntries(snapshot), elements)
            .with_output_types(pa.RecordBatch, **tags.HINTS)
            .with_outputs(tags.COUNTS, tags.DEAD, main="rows")
        )
        counts += [made[tags.COUNTS], again[tags.COUNTS]]
        dead += [made[tags.DEAD], again[tags.DEAD]]
        entries, merged = (made.rows, again.rows) | "Entries" >> beam.Flatten(), []
        if placed:
            entries, others, same = entries | "MergeStructures" >> MergeStructures(root, placed.path)
            counts.append(same)
            merged = [others | "WriteMerged" >> WriteTable(root, path, "merged", MERGED_SCHEMA, ("id",), 1)]
        files = [
            entries | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), job.config.part_files),
            done[FRAMES]
            | "WriteFrames" >> WriteTable(root, path, "frames", FRAME_SCHEMA, ("job", "step"), job.config.part_files),
            pipeline | "Files" >> FromDriver([*written, *write_parts(store, path, "references", added, ("id",), 1)]),
            *merged,
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", files, counts, dead)

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
        run_waiting(job.store, name, dft, ids, crystals["numbers"])
    jobs = engine_jobs(job.store, name)
    waiting = sum(jobs.state(id_) not in ENDED for id_ in ids)
    if waiting:
        root = job.store.root
        how = f"`gnome dft take {root} FOLDER`" if job.store.in_bucket else f"`gnome dft submit {root}`"
        raise JobsPending(
            f"{waiting} of {len(ids)} jobs of the snapshot wait in {jobs.place}; `gnome dft run {root}` or {how} "
            f"runs them, then `gnome round resume {root}` goes on"
        )


def _is_outcome(count: tuple[str, int]) -> bool:
    return count[0] != tags.IN  # the stage counts what comes in by itself
