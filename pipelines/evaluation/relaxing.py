"""Crystals of any source, relaxed in this process: rows with energies, or the reasons why there are none."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dft.evaluators.evaluator import Evaluator
from dft.tables import DONE, RESULT_SCHEMA, job_digest, protocol_json, result_batch
from gnome_core.compositions.dense import N_COLUMNS, atom_counts
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import elemental_entries
from gnome_core.files import write_file
from gnome_core.stability.hull import Hull
from gnome_core.stability.references import ElementalReferences
from pipelines.store.digests import json_digest

BATCH = 32  # crystals relaxed together

RELAXED_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,
        pa.field("formula", pa.string(), nullable=False),
        pa.field("chemsys", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # done, or the short name of the failure
        pa.field("message", pa.string(), nullable=False),
        pa.field("energy_per_atom", pa.float64()),
        pa.field("correction_per_atom", pa.float64()),
        pa.field("e_form_per_atom", pa.float64()),
        pa.field("e_above_hull", pa.float64()),
        pa.field("volume_change", pa.float64()),  # relative to the given cell
        pa.field("steps", pa.int32(), nullable=False),
        pa.field("scale", pa.string(), nullable=False),
    ],
    metadata={
        "schema": "gnome.relaxed",
        "schema_version": "1",
        "unit.lattice": "angstrom",
        "unit.energy_per_atom": "eV/atom",
        "unit.correction_per_atom": "eV/atom",
        "unit.e_form_per_atom": "eV/atom",
        "unit.e_above_hull": "eV/atom",
    },
)


@dataclass(frozen=True)
class KeptBatches:
    """Finished batches in a folder, so that a run that was interrupted goes on. None keeps nothing."""

    folder: Path | None

    def path(self, jobs: Sequence[str]) -> Path | None:
        return self.folder / f"{json_digest(list(jobs))}.parquet" if self.folder else None

    def read(self, jobs: Sequence[str]) -> pa.RecordBatch | None:
        path = self.path(jobs)
        if path is None or not path.is_file():
            return None
        try:
            (batch,) = pq.read_table(path, page_checksum_verification=True).combine_chunks().to_batches()
        except (OSError, ValueError, pa.ArrowException):  # cut short: as good as none
            return None
        return batch

    def keep(self, jobs: Sequence[str], batch: pa.RecordBatch) -> None:
        if (path := self.path(jobs)) is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_batches([batch]), sink, write_page_checksum=True)
        write_file(path, sink.getvalue())


def relaxed(
    evaluator: Evaluator,
    crystals: Sequence[Crystal],
    evaluate: Callable[[Sequence[Crystal]], list] | None = None,
    kept: KeptBatches = KeptBatches(None),
    progress: Callable[[int], None] | None = None,
    settings: object = None,
) -> pa.Table:
    """RESULT_SCHEMA, one row a crystal in their order. Crystals of like size go together.

    evaluate: in place of the evaluator's own, for relaxations under constraints, which `settings` (JSON) then name.
    """
    protocol = protocol_json({**evaluator.protocol, "settings": settings} if settings else evaluator.protocol)
    jobs = [job_digest(crystal, protocol) for crystal in crystals]
    order = sorted(range(len(crystals)), key=lambda i: (crystals[i].n_sites, i))
    batches = []
    for rows in (order[i : i + BATCH] for i in range(0, len(order), BATCH)):
        ids, own = [jobs[row] for row in rows], [crystals[row] for row in rows]
        batch = kept.read(ids)
        if batch is None:
            outcomes = (evaluate or evaluator.evaluate)(own)
            batch = result_batch(ids, own, outcomes, evaluator.scale, correct=evaluator.corrections)
            kept.keep(ids, batch)
        if progress:
            progress(len(rows))
        batches.append(batch)
    table = pa.Table.from_batches(batches, RESULT_SCHEMA)
    return table.take(pa.array(np.argsort(order)))


def references_for(evaluator: Evaluator, elements: Sequence[int], kept: KeptBatches = KeptBatches(None)):
    """The elements' energies on the evaluator's scale: as shipped, or by relaxing the shipped crystals of them."""
    if shipped := shipped_references(evaluator.scale):
        return shipped
    table = elemental_entries()
    wanted = pa.array([numbers[0] in set(elements) for numbers in table["numbers"].to_pylist()], pa.bool_())
    crystals = list(crystals_from_batch(table.filter(wanted)))
    results = relaxed(evaluator, crystals, kept=kept)
    return ElementalReferences.lowest(results["numbers"], total_energies(results), evaluator.scale)


def shipped_references(scale: str) -> ElementalReferences | None:
    """Those that come with the package, if any are on the scale."""
    shipped = elemental_entries(scale)
    if not len(shipped):
        return None
    energies = np.add(shipped["energy_per_atom"].to_numpy(), shipped["correction_per_atom"].to_numpy())
    return ElementalReferences.lowest(shipped["numbers"], energies, scale)


def total_energies(results: pa.Table) -> np.ndarray:
    """(n,) eV/atom with corrections; NaN where a relaxation failed."""
    energies = results["energy_per_atom"].cast(pa.float64()).to_numpy()
    return energies + results["correction_per_atom"].fill_null(0.0).to_numpy()


def formation_energies(results: pa.Table, references: ElementalReferences) -> np.ndarray:
    """(n,) eV/atom; NaN where a relaxation failed or an element has no reference."""
    counts = atom_counts(results["numbers"])
    reference = np.array([references.energies.get(z, np.nan) for z in range(N_COLUMNS)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    return total_energies(results) - np.where(shares > 0, shares * reference, 0.0).sum(axis=1)


def described(
    ids: Sequence[str], starts: Sequence[Crystal], results: pa.Table, e_form: np.ndarray, hull: Hull | None
) -> pa.Table:
    """RELAXED_SCHEMA."""
    crystals = list(crystals_from_batch(results))
    above = np.full(len(ids), np.nan)
    if hull is not None:
        counts = atom_counts(results["numbers"])
        known = np.flatnonzero(hull.has_references(counts) & ~np.isnan(e_form))
        above[known] = hull.e_above_hull(counts[known], e_form[known])
    batch = record_batch(
        RELAXED_SCHEMA,
        list(ids),
        crystals,
        formula=[reduced_formula(crystal.numbers) for crystal in crystals],
        chemsys=[chemsys(crystal.numbers) for crystal in crystals],
        **{name: results[name].combine_chunks() for name in ("status", "message", "energy_per_atom", "steps", "scale")},
        correction_per_atom=results["correction_per_atom"].combine_chunks(),
        e_form_per_atom=pa.array(e_form, from_pandas=True),
        e_above_hull=pa.array(above, from_pandas=True),
        volume_change=[b.volume / a.volume - 1 for a, b in zip(starts, crystals, strict=True)],
    )
    return pa.Table.from_batches([batch])


def failures(results: pa.Table) -> Iterator[tuple[str, str]]:
    """(reason, message) of every row that is not done."""
    for status, message in zip(results["status"].to_pylist(), results["message"].to_pylist(), strict=True):
        if status != DONE:
            yield status, message
