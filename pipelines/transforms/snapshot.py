"""A snapshot's crystals -> entries on the evaluator's scale, with an elemental reference for every element."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dft.jobs import DONE, job_digest
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, as_entries, crystals_from_batch, record_batch
from gnome_core.crystals.formulas import SYMBOLS, chemsys, reduced_formula
from gnome_core.crystals.readers import Entry, Rejected, elemental_entries, embedded_entries, read_snapshot
from gnome_core.stability.references import ElementalReferences
from pipelines import tags
from pipelines.dead_letters import DeadLetter
from pipelines.store import Store
from pipelines.transforms.ingest import formation_energies, unusable
from pipelines.transforms.score import invalid_reason

UNLABELLED_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # id = job digest
        pa.field("entry", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("reference_e_form_per_atom", pa.float64()),
    ]
)


def labelled_entries(source: str, scale: str) -> pa.Table | None:
    """The entries of a source whose labels are on `scale` already: the embedded snapshot, or a file like it."""
    if source == "embedded":
        return as_entries(embedded_entries())
    path = Path(source)
    if path.suffix != ".parquet" or not path.is_file():
        return None
    if not {field.name for field in ENTRY_SCHEMA if not field.nullable} <= set(pq.read_schema(path).names):
        return None
    entries = as_entries(pq.read_table(path))
    return entries if entries["scale"].unique().to_pylist() == [scale] else None


def unlabelled_crystals(source: str, protocol: str) -> tuple[pa.Table, list[DeadLetter], int]:
    """(crystals to evaluate, letters of the broken rows, crystals that repeat another one exactly)."""
    found: dict[str, Entry] = {}
    letters: list[DeadLetter] = []
    repeated = 0
    for item in read_snapshot(source):
        if isinstance(item, Rejected):
            letters.append(DeadLetter("snapshot", item.key, item.reason, item.message[:2000], item.payload))
            continue
        digest = job_digest(item.crystal, protocol)
        repeated += digest in found
        found.setdefault(digest, item)
    entries = list(found.values())
    batch = record_batch(
        UNLABELLED_SCHEMA,
        list(found),
        [entry.crystal for entry in entries],
        entry=[entry.id for entry in entries],
        source=[entry.source for entry in entries],
        reference_e_form_per_atom=[entry.e_form_per_atom for entry in entries],
    )
    return pa.Table.from_batches([batch]), letters, repeated


def added_references(crystals: pa.Table, scale: str) -> pa.Table:
    """Elemental entries shipped with the package, for the elements that `crystals` hold in compounds only.

    Elements that the package has no entry of on `scale` stay without reference.
    """
    held = [set(numbers) for numbers in crystals["numbers"].to_pylist()]
    wanted = set().union(*held) - {z for numbers in held if len(numbers) == 1 for z in numbers}
    if not wanted:
        return ENTRY_SCHEMA.empty_table()
    shipped = as_entries(elemental_entries())
    shipped = shipped.filter(pc.equal(shipped["scale"], scale))
    shipped = shipped.filter(pa.array([numbers[0] in wanted for numbers in shipped["numbers"].to_pylist()], pa.bool_()))
    # Ids of their own, which no snapshot uses.
    ids = pa.array([f"element-{symbol}" for symbol in shipped["chemsys"].to_pylist()], pa.string())
    return shipped.set_column(0, ENTRY_SCHEMA.field("id"), ids)


def missing_reference(numbers: Iterable[int], elements: Collection[int]) -> str | None:
    """The reason why a crystal has no formation energy ("missing_reference_Kr_Xe"), or None."""
    missing = sorted(SYMBOLS[z] for z in set(numbers) - set(elements))
    return "_".join(["missing_reference", *missing]) if missing else None


def results_of_elements(results: pa.RecordBatch) -> pa.RecordBatch:
    """The finished results of one element each: what references are chosen from."""
    element = pa.array([len(set(numbers)) == 1 for numbers in results["numbers"].to_pylist()], pa.bool_())
    return results.filter(pc.and_(element, pc.equal(results["status"], DONE)))


def references_of(
    elements: Iterable[pa.RecordBatch], added: Iterable[pa.RecordBatch], scale: str
) -> ElementalReferences:
    """The lowest energy of each element, of the snapshot's own crystals and of the added references."""
    own = [(batch["numbers"], batch["energy_per_atom"].to_numpy()) for batch in elements]
    more = [
        (batch["numbers"], np.add(batch["energy_per_atom"].to_numpy(), batch["correction_per_atom"].to_numpy()))
        for batch in added
    ]
    numbers = [row for column, _ in own + more for row in column.to_pylist()]
    energies = np.concatenate([np.zeros(0), *(energy for _, energy in own + more)])
    return ElementalReferences.lowest([np.array(row) for row in numbers], energies, scale)


@beam.typehints.with_output_types(pa.RecordBatch)
class ToSnapshotEntries(beam.DoFn):
    """RESULT_SCHEMA -> ENTRY_SCHEMA of round 0, once all elements' results are known (a side input).

    crystals: store-relative path of the UNLABELLED_SCHEMA table that was evaluated.
    """

    def __init__(self, root: str, crystals: str, added: pa.Table, scale: str):
        self.root, self.path, self.added, self.scale = root, crystals, added.to_batches(), scale

    def setup(self) -> None:
        table = pq.read_table(pa.BufferReader(Store(self.root).storage.read(self.path)))
        self.crystals = table.cast(UNLABELLED_SCHEMA).combine_chunks()

    def process(self, results: pa.RecordBatch, elements: list[pa.RecordBatch]) -> Iterator:
        references = references_of(elements, self.added, self.scale)
        relaxed = crystals_from_batch(results)
        e_form = formation_energies(results, references)
        reasons = [
            (status == DONE and missing_reference(crystal.numbers.tolist(), references.elements))
            or unusable(status, energy, invalid_reason(crystal))
            for status, energy, crystal in zip(results["status"].to_pylist(), e_form, relaxed, strict=True)
        ]
        for reason in filter(None, reasons):
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), 1))
        good = [row for row, reason in enumerate(reasons) if reason is None]
        if not good:
            return
        kept = [relaxed[row] for row in good]
        given = self.crystals.take(
            pc.index_in(results["id"].take(pa.array(good)), self.crystals["id"].combine_chunks())
        )
        yield record_batch(
            ENTRY_SCHEMA,
            given["entry"].to_pylist(),
            kept,
            formula=[reduced_formula(crystal.numbers) for crystal in kept],
            chemsys=[chemsys(crystal.numbers) for crystal in kept],
            energy_per_atom=results["energy_per_atom"].take(pa.array(good)),
            correction_per_atom=0.0,
            e_form_per_atom=e_form[good],
            energy_kind="total",
            scale=self.scale,
            source=given["source"],
            reference_e_form_per_atom=given["reference_e_form_per_atom"],
            round=0,
            job=given["id"],
        )
