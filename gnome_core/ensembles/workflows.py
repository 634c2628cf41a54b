"""Ensembles outside a round: train one on a file, predict a file with one, say how good one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from gnome_core.analysis.discovery import Calibration, RegressionMetrics, iqr_calibration, regression_metrics
from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.split import is_train
from gnome_core.ensembles.bisect import bisect
from gnome_core.ensembles.calibration import FILE as CALIBRATION
from gnome_core.ensembles.ensemble import EnsembleModel, EnsemblePrediction, OverVolumes, calibrate
from gnome_core.ensembles.rows import Rows, read_rows
from gnome_core.errors import GnomeError
from gnome_core.files import write_file
from gnome_core.graphs.featurize import BadCrystal
from gnome_core.models.config import ModelConfig
from gnome_core.models.shipped import Framework
from gnome_core.stability.hull import Hull
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.members.loop import MemberResult, train_members
from gnome_core.units import PLAUSIBLE_E_FORM

AT_ONCE = 200  # rows predicted between two words of progress
PREDICTED = ("median", "iqr", "best_volume_factor")


def train_ensemble(
    rows: Rows,
    folder: Path,
    *,
    n_members: int,
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
    init_from: Sequence[str | Path] = (),
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> list[MemberResult]:
    """Train members into `folder`/member-000.npz ...; interrupted ones resume.

    init_from: files of members that they start from, by turns; without any, from nothing.

    Their spread is calibrated on the formulas that validate.

    progress hears of every epoch of a member. Formulas of the 85 % train, the others validate (`is_train`).
    """
    graphs = rows.graphs(model.cutoff, folder / "graphs")
    train = np.array([is_train(formula) for formula in rows.formulas], bool)
    members = range(n_members)
    results = []
    for group in [members] if training.together else [[member] for member in members]:
        results += train_members(
            graphs,
            rows.e_form,
            train,
            members=group,
            seed=seed,
            out_dir=folder,
            model=model,
            training=training,
            init_from=[str(init_from[k % len(init_from)]) for k in group] if init_from else None,
            progress=progress,
        )
    paths = [result.path for result in results]
    write_file(folder / CALIBRATION, calibrate(paths, graphs, rows.e_form, train))
    return results


@dataclass(frozen=True)
class Ensemble:
    """An ensemble and its framework, and the hull that its energies can be measured against, if any."""

    framework: Framework
    model: EnsembleModel
    hull: Hull | None


def snapshot_hull(source: str) -> Hull:
    """The hull of a snapshot's own labels, and of the elements, whose formation energies are zero by definition.

    Raises GnomeError for a snapshot without labels.
    """
    rows = read_rows(source, "structural")
    rows = rows.take(np.isfinite(rows.e_form) & (np.abs(np.nan_to_num(rows.e_form)) <= PLAUSIBLE_E_FORM))
    if not len(rows):
        raise GnomeError(f"{source} has no labelled crystal; a hull needs formation energies (column e_form_per_atom)")
    elements = [f"element {symbol}" for symbol in SYMBOLS[1:N_COLUMNS]]
    compositions = np.concatenate([rows.compositions(), np.eye(N_COLUMNS)[1:]])
    e_form = np.append(rows.e_form, np.zeros(len(elements)))
    # A file may use such an id itself.
    taken = set(rows.ids)
    return Hull.from_entries(
        [*rows.ids, *(f"{name} at zero" if name in taken else name for name in elements)], compositions, e_form, source
    )


def without_compounds(hull: Hull, compositions: np.ndarray) -> list[str]:
    """Elements of the compounds among the compositions (n, 95) of which the hull has no compound, and so no rivals."""
    entries = hull.compositions(range(len(hull))) > 0
    compounds = entries[entries.sum(axis=1) > 1]
    asked = compositions[(compositions > 0).sum(axis=1) > 1]
    return [SYMBOLS[z] for z in np.flatnonzero((asked > 0).any(axis=0) & ~compounds.any(axis=0))]


def predict_rows(
    ensemble: Ensemble, rows: Rows, over_volumes: OverVolumes, progress: Callable[[int], None] | None = None
) -> tuple[pa.Table, dict[str, str]]:
    """(id, formula, chemsys, median, iqr, best_volume_factor, extrapolated (see `EnsemblePrediction`) and, with a hull,
    e_above_hull of every row that could be predicted; the reason of every other, by id). Energies in eV/atom. progress
    hears of every few that are done.
    """

    def predict(positions: Sequence[int]) -> EnsemblePrediction:
        part = rows.take(np.asarray(positions))
        if isinstance(part.items, np.ndarray):
            return ensemble.model.predict_compositions(part.items)
        return ensemble.model.predict(part.items, over_volumes=over_volumes)

    values = {name: np.full(len(rows), np.nan) for name in PREDICTED} | {"extrapolated": np.zeros(len(rows), bool)}
    failed = {}
    for start in range(0, len(rows), AT_ONCE):
        few = range(start, min(start + AT_ONCE, len(rows)))
        bisected = bisect(predict, few, (ValueError,))
        for part, prediction in bisected.good:
            for name, column in values.items():
                column[few[part.start : part.stop]] = getattr(prediction, name)
        failed |= {rows.ids[few[row]]: str(error) for row, error in bisected.bad}
        if progress:
            progress(len(few))
    columns = {"id": rows.ids, "formula": rows.formulas, "chemsys": rows.systems, **values}
    if ensemble.hull is not None:
        columns["e_above_hull"] = _above_hull(ensemble.hull, rows.compositions(), values["median"])
    if ensemble.framework == "compositional":
        del columns["best_volume_factor"]
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()})
    return table.filter(table["median"].is_valid()), failed


def _above_hull(hull: Hull, compositions: np.ndarray, e_form: np.ndarray) -> np.ndarray:
    """NaN where the hull lacks an element."""
    above = np.full(len(e_form), np.nan)
    known = hull.has_references(compositions)
    above[known] = hull.e_above_hull(compositions[known], e_form[known])
    return above


@dataclass(frozen=True)
class Quality:
    """How good an ensemble is on labelled rows: errors of its median, of its members, and its calibration.

    seen, unseen: the median's on the formulas that members train on (`is_train`) and on the others; None without rows.
    """

    median: RegressionMetrics
    seen: RegressionMetrics | None
    unseen: RegressionMetrics | None
    members: list[RegressionMetrics]
    calibration: Calibration


def evaluate_rows(ensemble: Ensemble, rows: Rows) -> Quality:
    """Predict labelled rows at their own volume and compare. Raises GnomeError where one cannot be predicted."""
    try:
        if isinstance(rows.items, np.ndarray):
            predicted = ensemble.model.predict_compositions(rows.items)
        else:
            predicted = ensemble.model.predict(rows.items, (1.0,))
    except BadCrystal as error:
        raise GnomeError(f"{rows.ids[error.index]}: {error.reason}; remove the row") from None
    train = np.array([is_train(formula) for formula in rows.formulas], bool)
    seen, unseen = (
        regression_metrics(rows.e_form[mask], predicted.median[mask]) if mask.any() else None
        for mask in (train, ~train)
    )
    return Quality(
        regression_metrics(rows.e_form, predicted.median),
        seen,
        unseen,
        [regression_metrics(rows.e_form, energies) for energies in predicted.member_energies.T],
        iqr_calibration(rows.e_form, predicted.median, predicted.iqr),
    )
