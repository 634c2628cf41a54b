"""Judges of crystals measured on labelled ones; see `gnome_core.analysis.judge`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import cast

import numpy as np
import pyarrow as pa

from dft.evaluators.evaluator import Evaluator
from gnome_core.analysis.judge import Verdict, disturbed, judged
from gnome_core.analysis.reliability import Reliability, reliability
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import reduced_formula
from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles.rows import Rows, labelled_rows, read_rows
from gnome_core.ensembles.workflows import predict_rows
from gnome_core.models.shipped import Framework
from gnome_core.stability.published import as_published, compatible, energies_without, published_hull
from pipelines.errors import UserError
from pipelines.evaluation.relaxing import failures, formation_energies, references_for, relaxed
from pipelines.reading.ensembles import open_ensemble


@dataclass(frozen=True)
class Labelled:
    """Crystals with published formation energies (eV/atom), the file they are of, and all that was read of it."""

    source: str
    ids: list[str]
    crystals: list[Crystal]
    labels: np.ndarray
    rows: Rows


@dataclass(frozen=True)
class Judged:
    """The verdict, what its distances say about the chance to be stable (None: too few crystals), its rows, and what it
    took: seconds of CPU, steps a crystal."""

    verdict: Verdict
    reliability: Reliability | None
    rows: pa.Table
    cpu_seconds: float
    steps: float
    failed: dict[str, int]


def labelled(source: str | None, limit: int | None) -> Labelled:
    """The usable rows of a file; of the WBM crystals that are shipped where none is named. Raises UserError."""
    path = source or str(resources.files("gnome_core.data") / "wbm.parquet")
    rows = labelled_rows(path, "structural", "none")
    if not len(rows):
        raise UserError(f"{path} has no crystal with a formation energy (column e_form_per_atom) to judge by")
    found = rows.take(np.arange(len(rows))[:limit])
    return Labelled(path, found.ids, list(found.items), found.e_form, rows)


def judge_evaluator(
    evaluator: Evaluator, rows: Labelled, disturb: bool, progress: Callable[[int], None] | None = None
) -> Judged:
    """Relax the crystals, or cells disturbed from them, and compare.

    Formation energies are measured from the labels' own elements where the evaluator is on their scale.
    """
    elements = sorted({int(z) for crystal in rows.crystals for z in crystal.numbers})
    references = references_for(evaluator, elements)
    if compatible(evaluator.scale):
        references = as_published(references)
    began = time.process_time()
    results = relaxed(evaluator, disturbed(rows.crystals) if disturb else rows.crystals, progress=progress)
    spent = time.process_time() - began
    failed: dict[str, int] = {}
    for reason, _ in failures(results):
        failed[reason] = failed.get(reason, 0) + 1
    steps = float(np.mean(results["steps"].to_numpy()))
    return _judged(rows, formation_energies(results, references), spent, steps, failed)


def judge_ensemble(framework: str, rows: Labelled, progress: Callable[[int], None] | None = None) -> Judged:
    """Predict the crystals as given by the ensemble that comes with the package, and compare."""
    ensemble = open_ensemble(None, None, cast(Framework, framework))
    began = time.process_time()
    predicted, _ = predict_rows(ensemble, read_rows(rows.source, ensemble.framework), "median", progress)
    spent = time.process_time() - began
    by_id = dict(zip(predicted["id"].to_pylist(), predicted["median"].to_pylist(), strict=True))
    e_form = np.array([by_id.get(id_, np.nan) for id_ in rows.ids])
    return _judged(rows, e_form, spent, 0.0, {})


def _judged(rows: Labelled, e_form: np.ndarray, spent: float, steps: float, failed: dict[str, int]) -> Judged:
    hull = energies_without(published_hull(), atom_counts([crystal.numbers for crystal in rows.crystals]))
    formulas = [reduced_formula(crystal.numbers) for crystal in rows.crystals]
    table = pa.table(
        {
            "id": rows.ids,
            "formula": formulas,
            "e_form_per_atom": pa.array(rows.labels),
            "e_form_predicted": pa.array(e_form, from_pandas=True),
            "e_above_hull": pa.array(rows.labels - hull, from_pandas=True),
            "e_above_hull_predicted": pa.array(e_form - hull, from_pandas=True),
        }
    )
    chances = reliability(formulas, e_form - hull, rows.labels <= hull)
    return Judged(judged(rows.labels, e_form, hull), chances, table, spent, steps, failed)
