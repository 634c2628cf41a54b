"""Ensembles outside a round: train one on a file, predict a file with one, say how good one is."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.ensembles.workflows import Ensemble, Quality
from gnome_core.models.shipped import Framework, pretrained_members
from gnome_core.stability.hull import Hull
from pipelines.errors import UserError
from pipelines.reading.committed import hull_until
from pipelines.reading.members import local_member, member_addresses
from pipelines.rounds.driver import newest_commit
from pipelines.store.store import Store


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


def check_framework(name: str) -> Framework:
    """Raises UserError for a name that is none."""
    if name not in get_args(Framework):
        raise UserError(f"--framework {name}: must be one of {', '.join(get_args(Framework))}")
    return cast(Framework, name)


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
