"""Candidates -> scored candidates: expand them, hold predictions against the hull, choose what is predicted in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_to_arrays
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.generation.generators import try_expand
from gnome_core.generation.recipe import NO_PARENT
from pipelines import coders, progress, tags  # noqa: F401  registers the Arrow coders
from pipelines.dead_letters import dead_letter, dead_letter_batch
from pipelines.metrics import timer
from pipelines.resources import hull_until, parent_table
from pipelines.schemas import CANDIDATE_SCHEMA, PACKING_SCHEMA, SCORED_SCHEMA
from pipelines.transforms.inference import E_HULL, ERROR, EVALUATIONS, PASSED

PACKING = "packing"  # side output: (formula, (random structures begun, those that could not be packed))


@beam.typehints.with_output_types(pa.RecordBatch)
class ExpandCandidates(beam.DoFn):
    """Candidate batches -> the same with CRYSTAL_FIELDS; crystals that cannot exist are rejected by their reason.

    Compositions of random structures go to the tag PACKING.
    """

    def __init__(self, root: str, parents_round: int):
        self.root, self.parents_round = root, parents_round

    def setup(self) -> None:
        self.parents = parent_table(self.root, self.parents_round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        crystals = try_expand(batch, self.parents)
        reasons = [invalid_reason(crystal) for crystal in crystals]
        good = [crystal for crystal, reason in zip(crystals, reasons, strict=True) if crystal and reason is None]
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        for reason in filter(None, reasons):
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), 1))
        for row in np.flatnonzero(batch["parent"].to_numpy() == NO_PARENT).tolist():
            begun = batch["formula"][row].as_py(), (1, int(crystals[row] is None))
            yield beam.pvalue.TaggedOutput(PACKING, begun)
        if good:
            yield with_crystals(batch.filter(pa.array([reason is None for reason in reasons])), good)


class CountPacking(beam.PTransform):
    """The tag PACKING -> batches of PACKING_SCHEMA, one row a composition."""

    def expand(self, begun):
        return (
            begun
            | "Sum"
            >> beam.CombinePerKey(beam.combiners.TupleCombineFn(sum, sum)).with_output_types(
                tuple[str, tuple[int, int]]
            )
            | "Batch" >> beam.BatchElements(min_batch_size=100, max_batch_size=2000)
            | "ToArrow" >> beam.Map(_packing_batch).with_output_types(pa.RecordBatch)
        )


def _packing_batch(rows: list[tuple[str, tuple[int, int]]]) -> pa.RecordBatch:
    columns = zip(*((formula, begun, failed) for formula, (begun, failed) in rows), strict=True)
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=PACKING_SCHEMA)


def with_crystals(batch: pa.RecordBatch, crystals: Sequence[Crystal]) -> pa.RecordBatch:
    """The batch with CRYSTAL_FIELDS; ids are the candidates' digests in hex."""
    arrays = {"id": pa.array([digest.hex() for digest in batch["digest"].to_pylist()]), **crystals_to_arrays(crystals)}
    for field in CRYSTAL_FIELDS:
        batch = batch.append_column(field, arrays[field.name])
    return batch


@beam.typehints.with_output_types(pa.RecordBatch)
class HullEnergies(beam.DoFn):
    """Adds e_hull, the hull's energy at each composition; rejects compositions that the hull cannot hold."""

    def __init__(self, root: str, hull_round: int):
        self.root, self.hull_round = root, hull_round

    def setup(self) -> None:
        self.hull = hull_until(self.root, self.hull_round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        counts = atom_counts(batch["numbers"])
        measurable = self.hull.has_references(counts)
        if not measurable.all():
            n = int((~measurable).sum())
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected("missing_reference"), n))
            batch, counts = batch.filter(pa.array(measurable)), counts[measurable]
        if batch.num_rows:
            with timer("hull"):
                yield batch.append_column(E_HULL, pa.array(self.hull.e_hull(counts)))


@beam.typehints.with_output_types(pa.RecordBatch)
class Measured(beam.DoFn):
    """Predicted batches with e_above_hull, which keep their crystals; rows without prediction become dead letters.

    advances: whether these rows are the stage's progress, or have been before.
    """

    def __init__(self, advances: bool):
        self.advances = advances

    def process(self, batch: pa.RecordBatch) -> Iterator:
        if self.advances:
            progress.advance(batch.num_rows)
        failed = np.flatnonzero(batch[ERROR].is_valid())
        letters = [
            dead_letter("score", batch["id"][row].as_py(), ValueError(batch[ERROR][row].as_py()), batch.slice(row, 1))
            for row in failed.tolist()
        ]
        if letters:
            yield beam.pvalue.TaggedOutput(tags.DEAD, dead_letter_batch(letters))
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.dead("ValueError"), len(letters)))
        batch = batch.filter(batch[ERROR].is_null())
        if batch.num_rows:
            yield batch.append_column("e_above_hull", pc.subtract(batch["median"], batch[E_HULL]))


def passed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that passed the screen."""
    return batch.filter(batch[PASSED])


def unpredicted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Screened rows as they were before, but for the evaluations they have cost."""
    before = [*CANDIDATE_SCHEMA.names, *(field.name for field in CRYSTAL_FIELDS), E_HULL, EVALUATIONS]
    return batch.select(before)


def not_refined(batch: pa.RecordBatch, refined: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows that no batch of `refined` (a side input) holds."""
    taken = {digest for rows in refined for digest in rows["digest"].to_pylist()}
    return batch.filter(pa.array([digest not in taken for digest in batch["digest"].to_pylist()], pa.bool_()))


@beam.typehints.with_output_types(pa.RecordBatch)
class ToScored(beam.DoFn):
    """Measured batches -> SCORED_SCHEMA. Tallies the evaluations that they have cost."""

    def process(self, batch: pa.RecordBatch) -> Iterator:
        yield beam.pvalue.TaggedOutput(
            tags.COUNTS, (tags.tally("evaluations"), pc.sum(batch[EVALUATIONS]).as_py() or 0)
        )
        yield batch.select(SCORED_SCHEMA.names).cast(SCORED_SCHEMA)
