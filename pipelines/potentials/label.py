"""Crystals -> frames labelled by a teacher: of the crystals themselves, distorted copies, and the ways to minima."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dft.evaluators.make import make_evaluator
from dft.tables import FRAME_SCHEMA, RESULT_SCHEMA, job_digest, protocol_json
from gnome_core.compositions.formulas import chemsys
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.readers import Rejected, read_snapshot
from gnome_core.crystals.split import is_withheld, withholds
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.sampling import distorted
from pipelines.beam import progress, tags
from pipelines.beam.dead_letters import DeadLetter, write_letters
from pipelines.beam.options import network_hints
from pipelines.beam.runners import run_pipeline
from pipelines.beam.tables import WriteTable
from pipelines.errors import UserError
from pipelines.evaluation.batches import FRAMES, EvaluateBatch, evaluate_batches, write_batches
from pipelines.potentials.read_frames import LABELS
from pipelines.rounds.manifest import FromDriver, WriteManifest, read_manifest
from pipelines.store.records import Manifest
from pipelines.store.store import Store

BATCH = 64  # crystals; a killed run repeats at most one batch


def label(
    source: str,
    teacher: str,
    out: str,
    copies: int,
    rattle: float,
    strain: float,
    seed: int,
    flags: Sequence[str],
    elements: frozenset[int] = frozenset(),
    steps: int = 1,
) -> Manifest:
    """Label the crystals of a snapshot source (see `read_snapshot`) and `copies` distorted ones of each.

    steps: frames of each crystal, the first of its relaxation by the teacher; fewer where that ends before.
    elements: atomic numbers; crystals that hold others are rejected as other_elements. Empty: all are taken. Withheld
        systems of the embedded snapshot are rejected as withheld_system.

    Writes tables frames, results and dead below `out`/labels, and MANIFEST.json last. A run that was interrupted
    goes on where it was: finished batches are kept. Raises UserError for a source without a usable crystal.
    """
    evaluator, config = f"{'label' if steps == 1 else 'steps'}:{teacher}", RelaxConfig(max_steps=steps)
    protocol = protocol_json(make_evaluator(evaluator, config).protocol)
    jobs, letters, left_out = label_jobs(source, protocol, copies, rattle, strain, seed, elements)
    if not len(jobs):
        raise UserError(f"{source}: no usable crystal among {len(letters) + left_out.total()} rows")
    store = Store(out)
    batches, broken = write_batches(store, LABELS, jobs, BATCH), write_letters(store, LABELS, letters)
    totals = {tags.IN: len(letters) + left_out.total()}
    totals |= {tags.rejected(reason): n for reason, n in left_out.items()}
    for letter in letters:
        totals[tags.dead(letter.reason)] = totals.get(tags.dead(letter.reason), 0) + 1
    progress.expect(len(jobs), "crystals")

    def build(pipeline: beam.Pipeline) -> None:
        evaluate = EvaluateBatch(out, evaluator, config, protocol)
        done = evaluate_batches(pipeline, batches, evaluate, network_hints(flags))
        results = done.results | "Write" >> WriteTable(out, LABELS, "results", RESULT_SCHEMA, ("id",), 1)
        frames = done[FRAMES] | "WriteFrames" >> WriteTable(out, LABELS, FRAMES, FRAME_SCHEMA, ("job", "step"), 2)
        counts = pipeline | "Counts" >> beam.Create(list(totals.items())).with_output_types(tuple[str, int])
        written = pipeline | "Written" >> FromDriver([batches.file, *broken])
        pipeline | "Manifest" >> WriteManifest(
            out, LABELS, "results", [results, frames, written], [done[tags.COUNTS], counts]
        )

    run_pipeline(flags, build)
    manifest = read_manifest(store, LABELS)
    manifest.counts.check(out)
    return manifest


def outcomes(out: str, manifest: Manifest) -> Counter[str]:
    """How many crystals were labelled (`done`), and how many the teacher refused for which reason."""
    store, found = Store(out), Counter[str]()
    for file in manifest.files:
        if file.table == "results":
            found.update(store.open_parquet(file).read(columns=["status"])["status"].to_pylist())
    return found


def label_jobs(
    source: str, protocol: str, copies: int, rattle: float, strain: float, seed: int, elements: frozenset[int]
) -> tuple[pa.Table, list[DeadLetter], Counter[str]]:
    """(crystals to label, id = job digest; letters of broken rows; what else is left out, by its reason).

    A copy depends on the seed, the crystal's id and its number among the copies, not on the rest of the source.
    """
    found, letters, left_out = {}, [], Counter[str]()
    withhold = withholds("none", source)
    for item in read_snapshot(source):
        if isinstance(item, Rejected):
            letters.append(DeadLetter("label", item.key, item.reason, item.message, item.payload))
            continue
        if elements and not elements.issuperset(item.crystal.numbers.tolist()):
            left_out["other_elements"] += 1
            continue
        if withhold and is_withheld(chemsys(item.crystal.numbers)):
            left_out["withheld_system"] += 1
            continue
        rng = np.random.default_rng([seed, zlib.crc32(item.id.encode())])
        for crystal in (item.crystal, *(distorted(item.crystal, rng, rattle, strain) for _ in range(copies))):
            digest = job_digest(crystal, protocol)
            left_out["same_crystal"] += digest in found
            found.setdefault(digest, crystal)
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), list(found), list(found.values()))
    return pa.Table.from_batches([batch]), letters, left_out
