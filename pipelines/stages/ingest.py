"""ingest: results -> labelled entries; how many random structures of each composition converged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.dense import MissingReference
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.random_search import CODE as RANDOM_SEARCH
from gnome_core.stability.references import ElementalReferences
from pipelines.beam import tags
from pipelines.beam.tables import ReadTable, WriteTable
from pipelines.errors import StoreError
from pipelines.reading.committed import all_proposals, references
from pipelines.reading.schemas import CONVERGENCE_SCHEMA
from pipelines.reading.unusable import unusable
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import WriteManifest, run_job
from pipelines.stages.searched_compositions import CONVERGENCE, CountConvergence
from pipelines.store.records import Manifest
from pipelines.store.store import Store


def run(job: Job) -> Manifest:
    root, path = job.store.root, job.attempt.path

    def build(pipeline: beam.Pipeline) -> None:
        made = (
            pipeline
            | "Results" >> ReadTable(root, job.input("evaluate"), "results")
            | "ToEntries"
            >> beam.ParDo(ToEntries(root, job.round))
            .with_output_types(pa.RecordBatch, **tags.HINTS, **{CONVERGENCE: tuple[str, tuple[int, int, float]]})
            .with_outputs(tags.COUNTS, CONVERGENCE, main="rows")
        )
        files = [
            made.rows | "Write" >> WriteTable(root, path, "entries", ENTRY_SCHEMA, ("id",), 1),
            made[CONVERGENCE]
            | "Converged" >> CountConvergence()
            | "WriteConverged" >> WriteTable(root, path, "convergence", CONVERGENCE_SCHEMA, ("formula",), 1),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "entries", files, [made[tags.COUNTS]])

    return run_job(job, build, {})


def corrections(results: pa.RecordBatch) -> np.ndarray:
    """(n,) eV/atom; 0 on scales without corrections."""
    return results["correction_per_atom"].fill_null(0.0).to_numpy(zero_copy_only=False)


def correction_versions(results: pa.RecordBatch) -> pa.Array:
    """(n,) strings, null without correction, and for results that an older version of the package wrote."""
    if "correction_version" in results.schema.names:
        return results["correction_version"]
    return pa.nulls(results.num_rows, pa.string())


def formation_energies(results: pa.RecordBatch, table: ElementalReferences) -> np.ndarray:
    """(n,) corrected, eV/atom; NaN where the result has no energy or an element no reference."""
    energies = results["energy_per_atom"].to_numpy(zero_copy_only=False) + corrections(results)
    e_form = np.full(len(energies), np.nan)
    for row, numbers in enumerate(results["numbers"]):
        try:
            e_form[row] = table.formation_energy_per_atom([np.array(numbers.as_py())], energies[row : row + 1])[0]
        except MissingReference:
            continue
    return e_form


def energy_columns(
    results: pa.RecordBatch, good: Sequence[int], crystals: Sequence[Crystal], e_form: np.ndarray
) -> dict[str, object]:
    """The columns of ENTRY_SCHEMA that results fill alike in every stage, for the rows `good` and their crystals.

    e_form: (n,) eV/atom of all results.
    """
    rows = pa.array(good)
    return {
        "formula": [reduced_formula(crystal.numbers) for crystal in crystals],
        "chemsys": [chemsys(crystal.numbers) for crystal in crystals],
        "energy_per_atom": results["energy_per_atom"].take(rows),
        "correction_per_atom": corrections(results)[good],
        "correction_version": correction_versions(results).take(rows),
        "e_form_per_atom": e_form[good],
        "energy_kind": "total",
    }


@beam.typehints.with_output_types(pa.RecordBatch)
class ToEntries(beam.DoFn):
    """RESULT_SCHEMA -> ENTRY_SCHEMA. Raises StoreError for results on another energy scale than the store's.

    What became of random structures goes to the tag CONVERGENCE, by composition.
    """

    def __init__(self, root: str, round_: int):
        self.root, self.round = root, round_

    def setup(self) -> None:
        self.references = references(self.root)
        jobs = all_proposals(Store(self.root), self.round)  # late results are of earlier rounds
        self.parents = dict(zip(jobs["id"].to_pylist(), jobs["parent_id"].to_pylist(), strict=True))
        self.random = set(jobs.filter(pc.equal(jobs["generator"], RANDOM_SEARCH))["id"].to_pylist())

    def process(self, results: pa.RecordBatch) -> Iterator:
        scales = set(results["scale"].to_pylist())
        if scales - {self.references.scale}:
            raise StoreError(f"results on {sorted(scales)} cannot join a store on {self.references.scale}")
        crystals = crystals_from_batch(results)
        e_form = formation_energies(results, self.references)
        statuses = results["status"].to_pylist()
        reasons = [
            unusable(status, crystal, energy)
            for status, energy, crystal in zip(statuses, e_form, crystals, strict=True)
        ]
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, results.num_rows))
        for reason in filter(None, reasons):
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), 1))
        for job, crystal, reason, energy in zip(results["id"].to_pylist(), crystals, reasons, e_form, strict=True):
            if job in self.random:
                outcome = (1, int(reason is None), float(energy) if reason is None else np.inf)
                yield beam.pvalue.TaggedOutput(CONVERGENCE, (reduced_formula(crystal.numbers), outcome))
        good = [row for row, reason in enumerate(reasons) if reason is None]
        if not good:
            return
        jobs = [results["id"][row].as_py() for row in good]
        kept = [crystals[row] for row in good]
        yield record_batch(
            ENTRY_SCHEMA,
            [entry_id(self.round, job) for job in jobs],
            kept,
            **energy_columns(results, good, kept, e_form),
            scale=self.references.scale,
            source="round",
            round=self.round,
            parent=[self.parents[job] for job in jobs],
            job=jobs,
        )


def entry_id(round_: int, job: str) -> str:
    """Id of the entry that a round made from a job: short enough to type."""
    return f"r{round_:04d}-{job[:12]}"
