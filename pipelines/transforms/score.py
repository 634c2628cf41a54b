"""Candidates -> scored candidates: expand, predict with the ensemble, measure against the hull."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, crystals_to_arrays
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.ensembles.ensemble import EnsembleModel, EnsemblePrediction, OverVolumes
from gnome_core.generation.generators import try_expand
from gnome_core.generation.recipe import NO_PARENT
from gnome_core.stability.compositions import atom_counts
from pipelines import coders, progress, tags  # noqa: F401  registers the Arrow coders
from pipelines.dead_letters import bisect, dead_letter, dead_letter_batch
from pipelines.metrics import inc, timer
from pipelines.resources import hull_until, parent_table
from pipelines.schemas import PACKING_SCHEMA, SCORED_SCHEMA

PREDICTED = ("median", "iqr", "best_volume_factor")
ERROR = "error"  # message of a row that could not be predicted, else null
PACKING = "packing"  # side output: (formula, (random structures begun, those that could not be packed))


class JaxEnsembleHandler(ModelHandler[pa.RecordBatch, pa.RecordBatch, EnsembleModel]):
    """RunInference on record batches: adds median, iqr, best_volume_factor and error to batches of crystals.

    Batches need CRYSTAL_FIELDS and may carry any other columns. Each is predicted as it is given, since elements are
    batches already; a row that cannot be predicted gets nulls and its error, found by bisection, and the rest their
    energies. members: paths of the .npz files.
    """

    def __init__(self, members: Sequence[str], over_volumes: OverVolumes = "minimum"):
        super().__init__()
        self.members, self.over_volumes = list(members), over_volumes

    def load_model(self) -> EnsembleModel:
        model = EnsembleModel.load(self.members)
        model.warm_up()
        return model

    def should_skip_batching(self) -> bool:
        return True

    def run_inference(self, batch: pa.RecordBatch, model: EnsembleModel, inference_args=None) -> list[pa.RecordBatch]:
        with timer("predict"):
            return [predict_batch(batch, model, self.over_volumes)]

    def get_num_bytes(self, batch: pa.RecordBatch) -> int:
        return batch.nbytes

    def get_metrics_namespace(self) -> str:
        return "gnome"


def predict_batch(batch: pa.RecordBatch, model: EnsembleModel, over_volumes: OverVolumes) -> pa.RecordBatch:
    """The batch with its predictions; see JaxEnsembleHandler."""

    def predict(crystals: Sequence[Crystal]) -> EnsemblePrediction:
        return model.predict(crystals, over_volumes=over_volumes)

    bisected = bisect(predict, crystals_from_batch(batch), (ValueError,))
    values = {name: np.full(batch.num_rows, np.nan) for name in PREDICTED}
    for rows, prediction in bisected.good:
        assert isinstance(prediction, EnsemblePrediction)
        for name in PREDICTED:
            values[name][rows.start : rows.stop] = getattr(prediction, name)
    errors: list[str | None] = [None] * batch.num_rows
    for row, error in bisected.bad:
        errors[row] = str(error)
    for name in PREDICTED:
        batch = batch.append_column(name, pa.array(values[name], from_pandas=True))
    return batch.append_column(ERROR, pa.array(errors, pa.string()))


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


def invalid_reason(crystal: Crystal | None) -> str | None:
    """Why a candidate cannot be used, or None; a missing crystal is one whose atoms found no room."""
    if crystal is None:
        return "packing_failed"
    try:
        check_crystal(crystal)
    except InvalidCrystal as error:
        return error.reason
    return None


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
class MeasureAgainstHull(beam.DoFn):
    """Predicted batches -> SCORED_SCHEMA with e_above_hull; rows without prediction become dead letters."""

    def __init__(self, root: str, hull_round: int):
        self.root, self.hull_round = root, hull_round

    def setup(self) -> None:
        self.hull = hull_until(self.root, self.hull_round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
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
        counts = atom_counts(batch["numbers"])
        measurable = self.hull.has_references(counts)
        if not measurable.all():
            n = int((~measurable).sum())
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected("missing_reference"), n))
            batch, counts = batch.filter(pa.array(measurable)), counts[measurable]
        if batch.num_rows:
            with timer("hull"):
                above = self.hull.e_above_hull(counts, batch["median"].to_numpy())
            inc("scored", batch.num_rows)
            yield batch.append_column("e_above_hull", pa.array(above)).select(SCORED_SCHEMA.names).cast(SCORED_SCHEMA)
