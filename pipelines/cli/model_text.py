"""Predictions and errors of ensembles as the terminal shows them."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.ensembles.workflows import Quality
from gnome_core.models.shipped import Framework
from gnome_core.spreadsheets import write_csv
from pipelines.cli.terminal import Terminal
from pipelines.errors import UserError


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
        write_csv(table, output)
    elif output.suffix == ".parquet":
        pq.write_table(table, output, compression="zstd")
    else:
        raise UserError(f"--output {output}: must end in .csv or .parquet")


def _print_predictions(table: pa.Table) -> None:
    from rich.table import Table

    names = [name for name in table.column_names if name != "chemsys"]
    shown = Table(*names, title="eV/atom")
    for row in table.select(names).to_pylist():
        shown.add_row(*(f"{v:.3f}" if isinstance(v, float) else "-" if v is None else v for v in row.values()))
    Terminal().print(shown)


def print_quality(quality: Quality, n: int, source: str) -> None:
    """Errors of the median and of single members; calibration of the interquartile range."""
    from rich.table import Table

    console = Terminal()
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
