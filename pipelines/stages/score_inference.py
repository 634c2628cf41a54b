"""RunInference for ensembles on record batches: whole predictions, and the cheap screen that comes before them.

Elements are batches already, so each is predicted as it is given. A row that cannot be predicted gets nulls and its
error, found by bisection, and the rest their energies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler

from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles.bisect import bisect
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import VOLUME_FACTORS, EnsembleModel, OverVolumes
from gnome_core.ensembles.plugins import EnergyModel, make_model, predicted_by
from gnome_core.ensembles.screening import screen
from gnome_core.stability.references import ElementalReferences
from pipelines.beam import coders  # noqa: F401  registers the Arrow coders
from pipelines.beam.metrics import timer
from pipelines.reading.members import local_member

E_HULL = "e_hull"  # energy of the hull at a row's composition, eV/atom
PASSED = "passed"  # the screen's verdict
ERROR = "error"  # message of a row that could not be predicted, else null
EVALUATIONS = "evaluations"  # of members on the row's graph, so far
REFINED = "refined"  # whether the whole ensemble looked, at 20 volumes

Columns = Mapping[str, np.ndarray]


def _load(members: Sequence[str]) -> EnsembleModel:
    return EnsembleModel.load([local_member(address) for address in members])


class BatchHandler(ModelHandler[pa.RecordBatch, pa.RecordBatch, Any]):
    """What the handlers share: elements are batches already."""

    def should_skip_batching(self) -> bool:
        return True

    def get_num_bytes(self, batch: pa.RecordBatch) -> int:
        return batch.nbytes

    def get_metrics_namespace(self) -> str:
        return "gnome"


class EnsembleHandler(BatchHandler):
    """`members` are .npz files: paths, or addresses of `pipelines.reading.members`."""

    def __init__(self, members: Sequence[str]):
        super().__init__()
        self.members = list(members)

    def load_model(self) -> Any:
        model = _load(self.members)
        model.warm_up()
        return model


class ModelOfPackage(BatchHandler):
    """Adds what JaxEnsembleHandler adds to batches with CRYSTAL_FIELDS, as the model of an installed package says."""

    def __init__(self, name: str, identity: str | None, references: ElementalReferences):
        super().__init__()
        self.name, self.identity, self.references = name, identity, references

    def load_model(self) -> Any:
        return make_model(self.name, self.identity)

    def run_inference(self, batch: pa.RecordBatch, model: EnergyModel, inference_args=None) -> list[pa.RecordBatch]:
        crystals = crystals_from_batch(batch)

        def predict(rows: Sequence[int]) -> Columns:
            found = predicted_by(self.name, model, [crystals[row] for row in rows], self.references)
            return {
                "median": found.e_form,
                "iqr": found.spread,
                "best_volume_factor": np.ones(len(rows)),
                EVALUATIONS: np.ones(len(rows), int),
                REFINED: np.ones(len(rows), bool),
            }

        with timer("predict"):
            return [_with_predictions(batch, predict)]


class JaxEnsembleHandler(EnsembleHandler):
    """Adds median, iqr (eV/atom), best_volume_factor, evaluations, refined and error to batches with CRYSTAL_FIELDS.

    Every member looks at 20 volumes. Other columns stay; evaluations of an earlier screen are added to.
    """

    def __init__(self, members: Sequence[str], over_volumes: OverVolumes = "minimum"):
        super().__init__(members)
        self.over_volumes = over_volumes

    def run_inference(self, batch: pa.RecordBatch, model: EnsembleModel, inference_args=None) -> list[pa.RecordBatch]:
        crystals = crystals_from_batch(batch)

        def predict(rows: Sequence[int]) -> Columns:
            found = model.predict([crystals[row] for row in rows], over_volumes=self.over_volumes)
            return {
                "median": found.median,
                "iqr": found.iqr,
                "best_volume_factor": found.best_volume_factor,
                EVALUATIONS: np.full(len(rows), model.n_members * len(VOLUME_FACTORS)),
                REFINED: np.ones(len(rows), bool),
            }

        with timer("predict"):
            return [_with_predictions(batch, predict)]


class CompositionalHandler(EnsembleHandler):
    """Adds what JaxEnsembleHandler adds to batches with `numbers`, of which the composition alone counts."""

    def run_inference(self, batch: pa.RecordBatch, model: EnsembleModel, inference_args=None) -> list[pa.RecordBatch]:
        counts = atom_counts(batch["numbers"])

        def predict(rows: Sequence[int]) -> Columns:
            found = model.predict_compositions(counts[list(rows)])
            return {
                "median": found.median,
                "iqr": found.iqr,
                "best_volume_factor": found.best_volume_factor,
                EVALUATIONS: np.full(len(rows), model.n_members),
                REFINED: np.ones(len(rows), bool),
            }

        with timer("predict"):
            return [_with_predictions(batch, predict)]


@dataclass(frozen=True, eq=False)
class ScreeningModels:
    """What a screening worker holds (an object of its own, since Beam keeps weak references)."""

    members: EnsembleModel
    bounds: EnsembleModel | None


class ScreeningHandler(EnsembleHandler):
    """Adds what JaxEnsembleHandler adds, from few evaluations, and whether a row passed; batches have e_hull too.

    threshold: eV/atom above the hull that must be in reach. compositional: members that bound a composition's energy,
    read where `config.composition_margin` is set. second_looks: of a batch, see `screen`.
    """

    def __init__(
        self,
        members: Sequence[str],
        threshold: float,
        config: CascadeConfig,
        compositional: Sequence[str] = (),
        second_looks: int | None = None,
    ):
        super().__init__(members)
        self.threshold, self.config, self.second_looks = threshold, config, second_looks
        self.compositional = list(compositional) if config.composition_margin is not None else []

    def load_model(self) -> ScreeningModels:
        bounds = _load(self.compositional) if self.compositional else None
        return ScreeningModels(super().load_model(), bounds)

    def run_inference(self, batch: pa.RecordBatch, model: ScreeningModels, inference_args=None) -> list[pa.RecordBatch]:
        crystals, e_hull = crystals_from_batch(batch), batch[E_HULL].to_numpy()
        counts = atom_counts(batch["numbers"])

        def predict(rows: Sequence[int]) -> Columns:
            chosen: list[Crystal] = [crystals[row] for row in rows]
            bound = None if model.bounds is None else _of_compositions(model.bounds, counts[list(rows)])
            found = screen(
                model.members, chosen, e_hull[list(rows)], self.threshold, self.config, bound, self.second_looks
            )
            return {
                "median": found.median,
                "iqr": found.iqr,
                "best_volume_factor": np.ones(len(rows)),
                EVALUATIONS: found.evaluations,
                PASSED: found.passed,
                REFINED: np.zeros(len(rows), bool),
            }

        with timer("screen"):
            return [_with_predictions(batch, predict)]


def _of_compositions(model: EnsembleModel, counts: np.ndarray) -> np.ndarray:
    """(n,) predicted energies, eV/atom, of n compositions, each distinct one looked at once."""
    distinct, of_row = np.unique(counts, axis=0, return_inverse=True)
    return model.predict_compositions(distinct).median[of_row]


def _with_predictions(batch: pa.RecordBatch, predict: Callable[[Sequence[int]], Columns]) -> pa.RecordBatch:
    """The batch with the columns that `predict` gives for its rows, and the errors of rows where it fails."""
    bisected = bisect(predict, range(batch.num_rows), (ValueError,))
    values: dict[str, np.ndarray] = {}
    good = np.zeros(batch.num_rows, bool)
    for rows, columns in bisected.good:
        good[rows.start : rows.stop] = True
        for name, column in cast(Columns, columns).items():
            whole = values.setdefault(name, np.zeros(batch.num_rows, column.dtype))
            whole[rows.start : rows.stop] = column
    errors: list[str | None] = [None] * batch.num_rows
    for row, error in bisected.bad:
        errors[row] = str(error)
    if EVALUATIONS in values and EVALUATIONS in batch.schema.names:
        values[EVALUATIONS] = values[EVALUATIONS] + batch[EVALUATIONS].to_numpy()
        batch = batch.drop_columns([EVALUATIONS])
    for name, column in values.items():
        batch = batch.append_column(name, pa.array(column, mask=~good))
    return batch.append_column(ERROR, pa.array(errors, pa.string()))
