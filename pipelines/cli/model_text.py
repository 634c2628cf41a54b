"""Predictions and errors of ensembles as the terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import typer

from gnome_core.crystals.writers import write_parquet
from gnome_core.ensembles.rows import MAX_EXAMPLES, Rows
from gnome_core.ensembles.workflows import Quality
from gnome_core.models.config import ModelConfig
from gnome_core.models.members import load_member, model_of
from gnome_core.models.shipped import Framework, members_in, pretrained_members
from gnome_core.spreadsheets import write_csv
from pipelines.cli.terminal import Terminal, printable
from pipelines.errors import UserError

UNKNOWN_SCALE = "it is no formation energy, and the file does not say on which scale it is"


def starts(folder: str, framework: Framework, config: ModelConfig) -> list[Path]:
    """Files of the members in a folder, or of the package's own ("pretrained"), that others can start from.

    Raises GnomeError for a folder without members, UserError for members of another framework or network.
    """
    found = pretrained_members(framework) if folder == "pretrained" else members_in(folder)
    for path in found:
        network = load_member(path)[1].network()
        if network != model_of(config)[1]:
            raise UserError(f"--from {path}: is a {network}; give its settings of the network by --config")
    return found


def tell_left_out(rows: Rows, failed: Mapping[str, str] = MappingProxyType({})) -> None:
    """Say on stderr how many rows were left out for which reason, and what is wrong with the first few of them.

    failed: id -> why, of rows that could be read but not predicted.
    """
    for reason, n in sorted(rows.rejected.items()):
        if n:
            typer.echo(f"{n} rows left out: {reason}", err=True)
    if failed:
        typer.echo(f"{len(failed)} rows left out: not predicted", err=True)
    named = [*rows.examples, *(f"{id_}: {why}" for id_, why in failed.items())][:MAX_EXAMPLES]
    for message in named:
        typer.echo(printable(f"  {message}"), err=True)
    if (more := rows.rejected.total() + len(failed) - len(named)) > 0:
        typer.echo(f"  and {more} more", err=True)
    for name, n in sorted(rows.unused.items()):
        typer.echo(printable(f"{name} of {n} crystals is not used: {UNKNOWN_SCALE}"), err=True)


def write_predictions(table: pa.Table, output: Path | None) -> None:
    """To a .csv or .parquet file, or as a table on the terminal. Raises UserError for another ending."""
    if output is None:
        _print_predictions(table)
    elif output.suffix == ".csv":
        write_csv(table, output)
    elif output.suffix == ".parquet":
        write_parquet(table, output)
    else:
        raise UserError(f"--output {output}: must end in .csv or .parquet")


def _print_predictions(table: pa.Table) -> None:
    from rich.table import Table

    names = [name for name in table.column_names if name != "chemsys"]
    shown = Table(*names, title="eV/atom")
    for row in table.select(names).to_pylist():
        shown.add_row(*map(_cell, row.values()))
    Terminal().print(shown)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_quality(quality: Quality, n: int, source: str) -> None:
    """Errors of the median, of what members train on apart from the rest, and of single members; calibration of the
    interquartile range."""
    from rich.table import Table

    console = Terminal()
    table = Table("", "MAE meV/atom", "RMSE meV/atom", "R2", title=f"{n} rows of {source}")
    parts = (("median, formulas that train", quality.seen), ("median, formulas that validate", quality.unseen))
    both = [(name, metrics) for name, metrics in parts if metrics] if quality.seen and quality.unseen else []
    rows = [("median", quality.median), *both, *((f"member {k}", metrics) for k, metrics in enumerate(quality.members))]
    for name, metrics in rows:
        table.add_row(name, f"{1000 * metrics.mae:.1f}", f"{1000 * metrics.rmse:.1f}", f"{metrics.r2:.4f}")
    console.print(table)
    calibration = quality.calibration
    half = float(np.interp(0.5, calibration.levels, calibration.coverage))
    console.print(
        f"inside the interquartile range: {half:.0%} (50 % if calibrated); "
        f"rank correlation of error and range {calibration.rank_correlation:.2f}"
    )
