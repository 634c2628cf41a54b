"""A snapshot's crystals -> entries on the evaluator's scale, with an elemental reference for every element."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dft.tables import DONE, JOB_SCHEMA, job_digest
from gnome_core.compositions.formulas import SYMBOLS, chemsys, reduced_formula
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, as_entries, crystals_from_batch, record_batch
from gnome_core.crystals.readers import Entry, Rejected, elemental_entries
from gnome_core.stability.plausible import implausible_energy
from gnome_core.stability.references import ElementalReferences
from pipelines.beam.coders import RecordBatchCoder
from pipelines.beam.dead_letters import DeadLetter, as_dead
from pipelines.reading.unusable import unusable_geometry
from pipelines.stages.ingest import corrections, energy_columns, formation_energies
from pipelines.store.store import Store

UNLABELLED_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # id = job digest
        pa.field("entry", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("reference_e_form_per_atom", pa.float64()),
    ]
)

_MISSING = "missing_reference"


def letters_of(items: Iterable[Entry | Rejected]) -> list[DeadLetter]:
    """The letters of the rows that a reader rejected."""
    return [
        DeadLetter("snapshot", item.key, item.reason, item.message, item.payload)
        for item in items
        if isinstance(item, Rejected)
    ]


def unlabelled_crystals(items: Iterable[Entry | Rejected], protocol: str) -> tuple[pa.Table, int]:
    """(crystals to evaluate, how many more repeat one of them exactly) of what a reader gave."""
    found: dict[str, Entry] = {}
    repeated = 0
    for item in items:
        if isinstance(item, Rejected):
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
        reference_e_form_per_atom=[entry.reference_e_form_per_atom for entry in entries],
    )
    return pa.Table.from_batches([batch]), repeated


def added_references(wanted: Collection[int], scale: str) -> pa.Table:
    """Elemental entries shipped with the package, of the elements `wanted`.

    Elements that the package has no entry of on `scale` stay without reference.
    """
    if not wanted:
        return ENTRY_SCHEMA.empty_table()
    shipped = as_entries(elemental_entries(scale))
    shipped = shipped.filter(pa.array([numbers[0] in wanted for numbers in shipped["numbers"].to_pylist()], pa.bool_()))
    # Ids of their own, which no snapshot uses.
    ids = pa.array([f"element-{symbol}" for symbol in shipped["chemsys"].to_pylist()], pa.string())
    return shipped.set_column(0, ENTRY_SCHEMA.field("id"), ids)


def elements_of(entries: pa.Table) -> pa.Table:
    """The entries of one element each."""
    alone = [len(set(numbers)) == 1 for numbers in entries["numbers"].to_pylist()]
    return entries.filter(pa.array(alone, pa.bool_()))


def elements_alone(numbers: Iterable[Iterable[int]]) -> set[int]:
    """The elements that a crystal is of alone; numbers: atomic numbers of each crystal."""
    return {z for elements in map(set, numbers) if len(elements) == 1 for z in elements}


def missing_reference(numbers: Iterable[int], elements: Collection[int]) -> str | None:
    """The reason why a crystal has no formation energy ("missing_reference_Kr_Xe"), or None."""
    missing = sorted(SYMBOLS[z] for z in set(numbers) - set(elements))
    return "_".join([_MISSING, *missing]) if missing else None


def lacking_symbols(reason: str) -> set[str]:
    """The elements that a reason of `missing_reference` names; none of another reason."""
    return set(reason.removeprefix(_MISSING).split("_")[1:]) if reason.startswith(_MISSING) else set()


def no_reference(symbols: Iterable[str], scale: str) -> str:
    names = ", ".join(sorted(symbols))
    return (
        f"formation energies are measured from the elements, and there is no usable crystal of {names} alone on {scale}"
    )


def referenced(entries: pa.RecordBatch, elements: Collection[int]) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """(ENTRY_SCHEMA rows whose elements all have a reference, the letters of the others)."""
    reasons = [missing_reference(numbers, elements) for numbers in entries["numbers"].to_pylist()]
    letters = []
    for row, reason in enumerate(reasons):
        if reason:
            one = entries.slice(row, 1)
            id_, formula, scale = (one[name][0].as_py() for name in ("id", "formula", "scale"))
            message = f"{id_} ({formula}): {no_reference(lacking_symbols(reason), scale)}"
            letters.append(DeadLetter("snapshot", id_, reason, message, RecordBatchCoder().encode(one)))
    return entries.filter(pa.array([reason is None for reason in reasons], pa.bool_())), letters


def as_jobs(crystals: pa.RecordBatch, evaluator: str, protocol: str) -> pa.RecordBatch:
    """JOB_SCHEMA rows of crystals with CRYSTAL_FIELDS."""
    numbers = crystals["numbers"].to_pylist()
    columns = {
        **{name: crystals[name] for name in ("id", "lattice", "frac_coords", "numbers")},
        "formula": pa.array([reduced_formula(row) for row in numbers], pa.string()),
        "chemsys": pa.array([chemsys(row) for row in numbers], pa.string()),
        "evaluator": pa.repeat(evaluator, len(crystals)),
        "protocol": pa.repeat(protocol, len(crystals)),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in JOB_SCHEMA.names], schema=JOB_SCHEMA)


def results_of_elements(results: pa.RecordBatch) -> pa.RecordBatch:
    """The usable results of one element each: what references are chosen from."""
    elemental = np.array([len(set(numbers)) == 1 for numbers in results["numbers"].to_pylist()], bool)
    rows = np.flatnonzero(elemental)
    crystals = crystals_from_batch(results.take(pa.array(rows)))
    statuses = results["status"].take(pa.array(rows)).to_pylist()
    usable = [unusable_geometry(*one) is None for one in zip(statuses, crystals, strict=True)]
    return results.take(pa.array(rows[np.array(usable, bool)]))


def references_of(
    elements: Iterable[pa.RecordBatch], added: Iterable[pa.RecordBatch], scale: str
) -> ElementalReferences:
    """The lowest energy of each element, of the snapshot's own crystals and of the added references."""
    own = [(batch["numbers"], batch["energy_per_atom"].to_numpy() + corrections(batch)) for batch in elements]
    more = [(batch["numbers"], total_energies(batch)) for batch in added]
    numbers = [row for column, _ in own + more for row in column.to_pylist()]
    energies = np.concatenate([np.zeros(0), *(energy for _, energy in own + more)])
    return ElementalReferences.lowest([np.array(row) for row in numbers], energies, scale)


@dataclass(frozen=True)
class Snapshot:
    """What workers know of a snapshot that is evaluated, in files: only a few references travel with the graph.

    crystals: store-relative path of the UNLABELLED_SCHEMA table that is evaluated. before: of the ENTRY_SCHEMA table of
    entries on the evaluator's scale. added: references of the package.
    """

    root: str
    crystals: str
    before: str
    added: pa.Table
    scale: str

    def asked(self) -> pa.Table:
        return self._read(self.crystals, UNLABELLED_SCHEMA)

    def originals(self, asked: pa.Table) -> pa.Table:
        """Entries that are evaluated again: the lower of the two stays."""
        before = self._read(self.before, ENTRY_SCHEMA)
        return before.filter(pc.is_in(before["id"], asked["entry"].combine_chunks())).combine_chunks()

    def elemental(self) -> list[pa.RecordBatch]:
        """Entries that references are chosen from beside the results."""
        return [*self.added.to_batches(), *elements_of(self._read(self.before, ENTRY_SCHEMA)).to_batches()]

    def _read(self, path: str, schema: pa.Schema) -> pa.Table:
        table = pq.read_table(pa.BufferReader(Store(self.root).storage.read(path)))
        return table.cast(schema).combine_chunks()


@beam.typehints.with_output_types(pa.RecordBatch)
class ToSnapshotEntries(beam.DoFn):
    """RESULT_SCHEMA -> ENTRY_SCHEMA of round 0, once all elements' results are known (a side input).

    A crystal that gives no entry is a dead letter: it is the user's, who will ask which.
    """

    def __init__(self, snapshot: Snapshot):
        self.snapshot, self.scale = snapshot, snapshot.scale

    def setup(self) -> None:
        self.crystals = self.snapshot.asked()
        self.originals, self.elemental = self.snapshot.originals(self.crystals), self.snapshot.elemental()
        self.rows = {id_: row for row, id_ in enumerate(self.originals["id"].to_pylist())}

    def process(self, results: pa.RecordBatch, elements: list[pa.RecordBatch]) -> Iterator:
        references = references_of(elements, self.elemental, self.scale)
        relaxed = crystals_from_batch(results)
        e_form = formation_energies(results, references)
        reasons = [
            unusable_geometry(status, crystal)
            or missing_reference(crystal.numbers.tolist(), references.elements)
            or implausible_energy(energy)
            for status, energy, crystal in zip(results["status"].to_pylist(), e_form, relaxed, strict=True)
        ]
        given = self.crystals.take(pc.index_in(results["id"], self.crystals["id"].combine_chunks()))
        originals = [self.rows.get(entry) for entry in given["entry"].to_pylist()]
        yield from as_dead(
            [
                self._letter(results, given, row, reason, e_form[row])
                for row, reason in enumerate(reasons)
                if reason and originals[row] is None
            ]
        )
        lower = self._lower_originals(results, reasons, originals)
        if lower:
            yield from relabelled(self.originals.take(pa.array(lower)).to_batches(), references)
        stays = [original in lower for original in originals]
        good = [row for row, reason in enumerate(reasons) if reason is None and not stays[row]]
        if not good:
            return
        kept = [relaxed[row] for row in good]
        given = given.take(pa.array(good))
        yield record_batch(
            ENTRY_SCHEMA,
            given["entry"].to_pylist(),
            kept,
            **energy_columns(results, good, kept, e_form),
            scale=self.scale,
            source=given["source"],
            reference_e_form_per_atom=given["reference_e_form_per_atom"],
            round=0,
            job=given["id"],
        )

    def _letter(self, results: pa.RecordBatch, given: pa.Table, row: int, reason: str, e_form: float) -> DeadLetter:
        one, asked = results.slice(row, 1), given.slice(row, 1)
        entry = asked["entry"][0].as_py()
        (relaxed,), (before,) = crystals_from_batch(one), crystals_from_batch(asked)
        if lacking := lacking_symbols(reason):
            said = no_reference(lacking, self.scale)
        elif one["status"][0].as_py() != DONE:
            said = one["message"][0].as_py() or "the evaluator could not relax it"
        elif reason == "implausible_energy":
            said = f"a formation energy of {e_form:.2f} eV/atom, which no solid has"
        else:
            volumes = [crystal.volume / crystal.n_sites for crystal in (before, relaxed)]
            said = "it went from {:.1f} to {:.1f} Å^3 an atom, and no known solid looks like that".format(*volumes)
        message = f"{entry} ({reduced_formula(relaxed.numbers)}): {said}"
        return DeadLetter("snapshot", entry, reason, message, RecordBatchCoder().encode(one))

    def _lower_originals(self, results: pa.RecordBatch, reasons: list, originals: list[int | None]) -> list[int]:
        """Rows of the originals that the evaluation did not go below."""
        energies = results["energy_per_atom"].to_numpy(zero_copy_only=False) + corrections(results)
        before = total_energies(self.originals)
        return [
            original
            for row, original in enumerate(originals)
            if original is not None and (reasons[row] or before[original] <= energies[row])
        ]


@beam.typehints.with_output_types(pa.RecordBatch)
class KeepEntries(beam.DoFn):
    """Entries that were not evaluated again, their formation energies against the references found now; those without
    are dead letters."""

    def __init__(self, snapshot: Snapshot):
        self.snapshot = snapshot

    def setup(self) -> None:
        self.again, self.elemental = self.snapshot.asked()["entry"].combine_chunks(), self.snapshot.elemental()

    def process(self, entries: pa.RecordBatch, elements: list[pa.RecordBatch]) -> Iterator:
        untouched = entries.filter(pc.invert(pc.is_in(entries["id"], self.again)))
        references = references_of(elements, self.elemental, self.snapshot.scale)
        kept, letters = referenced(untouched, references.elements)
        yield from as_dead(letters)
        if kept.num_rows:
            yield from relabelled([kept], references)


def relabelled(batches: Iterable[pa.RecordBatch], references: ElementalReferences) -> Iterator[pa.RecordBatch]:
    """ENTRY_SCHEMA batches with their formation energies against other references."""
    for batch in batches:
        e_form = references.formation_energy_per_atom(batch["numbers"], total_energies(batch))
        columns = [pa.array(e_form) if name == "e_form_per_atom" else batch[name] for name in ENTRY_SCHEMA.names]
        yield pa.RecordBatch.from_arrays(columns, schema=ENTRY_SCHEMA)


def total_energies(entries: pa.RecordBatch | pa.Table) -> np.ndarray:
    """(n,) corrected total energies, eV/atom."""
    return np.add(entries["energy_per_atom"].to_numpy(), entries["correction_per_atom"].to_numpy())
