"""Ensembles outside a round: train one on a file, predict a file with one, say how good one is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gnome_core.analysis.discovery import Calibration, RegressionMetrics, iqr_calibration, regression_metrics
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.formulas import chemsys, composition, formula_of_composition, reduced_formula
from gnome_core.crystals.readers import Entry, read_snapshot
from gnome_core.crystals.sources.formula_table import LabelledComposition, read_formula_table
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.ensembles.calibration import FILE as CALIBRATION
from gnome_core.ensembles.ensemble import EnsembleModel, EnsemblePrediction, OverVolumes, calibrate
from gnome_core.graphs.cache import cached_graphs
from gnome_core.graphs.featurize import BadCrystal, GraphTable, compositional_graphs
from gnome_core.models.pretrained import Framework, pretrained_members
from gnome_core.stability.compositions import N_COLUMNS
from gnome_core.stability.hull import Hull
from gnome_core.training.loop import MemberResult, train_members
from pipelines.config import RoundConfig
from pipelines.dead_letters import bisect
from pipelines.errors import UserError
from pipelines.members import local_member, member_addresses
from pipelines.resources import hull_until
from pipelines.round import newest_commit
from pipelines.store import Store

PREDICTED = ("median", "iqr", "best_volume_factor")

# eV/atom: formation energies beyond are broken rows (the Materials Project's reach from about -4.7 to +3).
PLAUSIBLE_E_FORM = 4.7


@dataclass(frozen=True, eq=False)
class Rows:
    """What a file holds for a framework.

    ids, formulas, systems: n strings. items: n crystals, or (n, 95) compositions. e_form: (n,) eV/atom, NaN = no label.
    rejected: rows left out, by reason.
    """

    ids: list[str]
    formulas: list[str]
    systems: list[str]
    items: list[Crystal] | np.ndarray
    e_form: np.ndarray
    rejected: Counter[str]

    def __len__(self) -> int:
        return len(self.ids)

    def compositions(self) -> np.ndarray:
        """(n, 95) atoms by atomic number."""
        if isinstance(self.items, np.ndarray):
            return self.items
        return np.array([np.bincount(c.numbers, minlength=N_COLUMNS) for c in self.items]).reshape(-1, N_COLUMNS)

    def graphs(self, cutoff: float, cache: Path | None = None) -> GraphTable:
        """cache: folder where graphs of crystals are kept. Raises UserError naming the row that has none."""
        try:
            if isinstance(self.items, np.ndarray):
                return compositional_graphs(self.items)
            return cached_graphs(self.items, cutoff, cache)
        except BadCrystal as error:
            raise UserError(f"{self.ids[error.index]}: {error.reason}; remove the row") from None

    def take(self, rows: np.ndarray) -> Rows:
        """The rows at the given positions, or where a mask is true."""
        positions = np.arange(len(self))[rows].tolist()
        items = self.items[positions] if isinstance(self.items, np.ndarray) else [self.items[i] for i in positions]
        names = ([values[i] for i in positions] for values in (self.ids, self.formulas, self.systems))
        return Rows(*names, items, self.e_form[positions], self.rejected)


def read_rows(source: str, framework: Framework) -> Rows:
    """Rows of a snapshot source (see `read_snapshot`), one a crystal; for the compositional framework one a formula,
    labelled by its lowest crystal, or the rows of a table with a column `formula`. Raises SourceError.
    """
    path = Path(source)
    if framework == "compositional" and path.suffix in (".csv", ".parquet") and _has_formulas(path):
        return _of_compositions(list(read_formula_table(path)))
    entries, rejected = [], Counter[str]()
    for item in read_snapshot(source):
        if isinstance(item, Entry):
            entries.append(item)
        else:
            rejected[item.reason] += 1
    if framework == "compositional":
        lowest: dict[str, Entry] = {}
        for entry in sorted(entries, key=_label):
            lowest.setdefault(reduced_formula(entry.crystal.numbers), entry)
        compositions = [
            LabelledComposition(entry.id, composition(entry.crystal.numbers), entry.e_form_per_atom)
            for entry in lowest.values()
        ]
        rows = _of_compositions(compositions)
        rows.rejected.update(rejected)
        return rows
    return Rows(
        [entry.id for entry in entries],
        [reduced_formula(entry.crystal.numbers) for entry in entries],
        [chemsys(entry.crystal.numbers) for entry in entries],
        [entry.crystal for entry in entries],
        np.array([_label(entry) for entry in entries]),
        rejected,
    )


def _label(item: Entry | LabelledComposition) -> float:
    return np.nan if item.e_form_per_atom is None else item.e_form_per_atom


def _has_formulas(path: Path) -> bool:
    if path.suffix == ".csv":
        return True
    names = pq.read_schema(path).names
    return "formula" in names and "lattice" not in names


def _of_compositions(found: list) -> Rows:
    kept = [item for item in found if isinstance(item, LabelledComposition)]
    compositions = np.zeros((len(kept), N_COLUMNS), np.int64)
    for row, item in zip(compositions, kept, strict=True):
        for number, count in item.composition:
            row[number] = count
    return Rows(
        [item.key for item in kept],
        [formula_of_composition(item.composition) for item in kept],
        [chemsys([z for z, _ in item.composition]) for item in kept],
        compositions,
        np.array([_label(item) for item in kept]),
        Counter(item.reason for item in found if not isinstance(item, LabelledComposition)),
    )


def labelled_rows(source: str, framework: Framework, holdout: str) -> Rows:
    """The rows a model may train on: with a plausible label, outside what a holdout withholds; the rest is counted."""
    rows = read_rows(source, framework)
    labelled = np.isfinite(rows.e_form)
    plausible = np.abs(np.nan_to_num(rows.e_form)) <= PLAUSIBLE_E_FORM
    withheld = np.array([holdout != "none" and is_withheld(system) for system in rows.systems], bool)
    rows.rejected["no_label"] += int((~labelled).sum())
    rows.rejected["implausible_label"] += int((labelled & ~plausible).sum())
    rows.rejected["withheld_system"] += int((labelled & plausible & withheld).sum())
    return rows.take(labelled & plausible & ~withheld)


def train_ensemble(
    rows: Rows,
    framework: Framework,
    config: RoundConfig,
    folder: Path,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> list[MemberResult]:
    """Train a framework's members from nothing into `folder`/member-000.npz ...; interrupted ones resume.

    Their spread is calibrated on the formulas that validate.

    progress hears of every epoch of a member. Formulas of the 85 % train, the others validate (`is_train`).
    """
    n_members, model, settings = config.ensemble_of(framework)
    training = settings.settings()
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
            seed=config.seed,
            out_dir=folder,
            model=model,
            training=training,
            progress=progress,
        )
    paths = [result.path for result in results]
    (folder / CALIBRATION).write_bytes(calibrate(paths, graphs, rows.e_form, train))
    return results


@dataclass(frozen=True)
class Ensemble:
    """An ensemble and its framework, and the hull that its energies can be measured against, if any."""

    framework: Framework
    model: EnsembleModel
    hull: Hull | None


def open_ensemble(folder: str | None, store: str | None, framework: Framework) -> Ensemble:
    """The members of a folder that `gnome train` made, of a store's newest round with its hull, or those shipped.

    Raises UserError where there are none, BadMember for files that are not what they should be.
    """
    hull = None
    if folder:
        paths = sorted(Path(folder).glob("member-*.npz"))
        if not paths:
            raise UserError(f"{folder} holds no member-*.npz; `gnome train FILE {folder}` makes them")
    elif store:
        paths, hull = _of_store(store, framework)
    else:
        paths = pretrained_members(framework)
    model = EnsembleModel.load(paths)
    return Ensemble(cast(Framework, model.records[0].model), model, hull)


def _of_store(root: str, framework: Framework) -> tuple[list[Path], Hull]:
    opened = Store.open(root)
    trained, measured = newest_commit(opened, "train"), newest_commit(opened, "hull")
    if trained is None or measured is None:
        raise UserError(f"{root} has no trained members yet; `gnome round resume {root}` goes on")
    paths = [Path(local_member(address)) for address in member_addresses(opened, trained, framework)]
    if not paths:
        raise UserError(f"{root} trains no {framework} members (`framework` of its rounds); ask for the other kind")
    return paths, hull_until(root, measured.round)


def snapshot_hull(source: str) -> Hull:
    """The hull of a snapshot's own labels. Raises UserError for a snapshot without labels or elements."""
    rows = read_rows(source, "structural")
    rows = rows.take(np.isfinite(rows.e_form) & (np.abs(np.nan_to_num(rows.e_form)) <= PLAUSIBLE_E_FORM))
    if not len(rows):
        raise UserError(f"{source} has no labelled crystal; a hull needs formation energies (column e_form_per_atom)")
    return Hull.from_entries(rows.ids, rows.compositions(), rows.e_form, source)


def predict_rows(ensemble: Ensemble, rows: Rows, over_volumes: OverVolumes) -> tuple[pa.Table, dict[str, str]]:
    """(id, formula, chemsys, median, iqr, best_volume_factor and, with a hull, e_above_hull of every row that could be
    predicted; the reason of every other, by id). Energies in eV/atom.
    """

    def predict(positions: Sequence[int]) -> EnsemblePrediction:
        part = rows.take(np.asarray(positions))
        if isinstance(part.items, np.ndarray):
            return ensemble.model.predict_compositions(part.items)
        return ensemble.model.predict(part.items, over_volumes=over_volumes)

    bisected = bisect(predict, range(len(rows)), (ValueError,))
    values = {name: np.full(len(rows), np.nan) for name in PREDICTED}
    for part, prediction in bisected.good:
        for name in PREDICTED:
            values[name][part] = getattr(prediction, name)
    failed = {rows.ids[row]: str(error) for row, error in bisected.bad}
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
    """How good an ensemble is on labelled rows: errors of its median, of its members, and its calibration."""

    median: RegressionMetrics
    members: list[RegressionMetrics]
    calibration: Calibration


def evaluate_rows(ensemble: Ensemble, rows: Rows) -> Quality:
    """Predict labelled rows at their own volume and compare. Raises UserError where one cannot be predicted."""
    try:
        if isinstance(rows.items, np.ndarray):
            predicted = ensemble.model.predict_compositions(rows.items)
        else:
            predicted = ensemble.model.predict(rows.items, (1.0,))
    except BadCrystal as error:
        raise UserError(f"{rows.ids[error.index]}: {error.reason}; remove the row") from None
    return Quality(
        regression_metrics(rows.e_form, predicted.median),
        [regression_metrics(rows.e_form, energies) for energies in predicted.member_energies.T],
        iqr_calibration(rows.e_form, predicted.median, predicted.iqr),
    )


def check_framework(name: str) -> Framework:
    """Raises UserError for a name that is none."""
    if name not in get_args(Framework):
        raise UserError(f"--framework {name}: must be one of {', '.join(get_args(Framework))}")
    return cast(Framework, name)


def split_rows(rows: Rows, split: str) -> Rows:
    """The rows that train, those that do not ("validation"), or all. Raises UserError for another word or no rows."""
    train = np.array([is_train(formula) for formula in rows.formulas], bool)
    masks = {"train": train, "validation": ~train, "all": np.ones(len(rows), bool)}
    if split not in masks:
        raise UserError(f"--split {split}: must be one of {', '.join(masks)}")
    chosen = rows.take(masks[split])
    if not len(chosen):
        raise UserError(f"no labelled row of the {split} split; give a file with formation energies, or --split all")
    return chosen


def write_predictions(table: pa.Table, output: Path | None) -> None:
    """To a .csv or .parquet file, or as a table on the terminal. Raises UserError for another ending."""
    if output is None:
        _print_predictions(table)
    elif output.suffix == ".csv":
        pyarrow.csv.write_csv(table, output)
    elif output.suffix == ".parquet":
        pq.write_table(table, output, compression="zstd")
    else:
        raise UserError(f"--output {output}: must end in .csv or .parquet")


def _print_predictions(table: pa.Table) -> None:
    from rich.console import Console
    from rich.table import Table

    names = [name for name in table.column_names if name != "chemsys"]
    shown = Table(*names, title="eV/atom")
    for row in table.select(names).to_pylist():
        shown.add_row(*(f"{v:.3f}" if isinstance(v, float) else "-" if v is None else v for v in row.values()))
    Console().print(shown)


def print_quality(quality: Quality, n: int, source: str) -> None:
    """Errors of the median and of single members; calibration of the interquartile range."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("", "MAE meV/atom", "RMSE meV/atom", "R2", title=f"{n} rows of {source}")
    rows = [("median", quality.median), *((f"member {k}", metrics) for k, metrics in enumerate(quality.members))]
    for name, metrics in rows:
        table.add_row(name, f"{1000 * metrics.mae:.1f}", f"{1000 * metrics.rmse:.1f}", f"{metrics.r2:.4f}")
    console.print(table)
    calibration = quality.calibration
    half = float(np.interp(0.5, calibration.levels, calibration.coverage))
    console.print(
        f"inside the interquartile range: {half:.0%} (50 % if calibrated); "
        f"rank correlation of error and range {calibration.rank_correlation:.2f}"
    )
