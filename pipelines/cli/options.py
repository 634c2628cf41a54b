"""Arguments and options that several files of commands share: a name means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gnome_core.crystals.split import Holdout

Queue = Literal["slurm", "jobflow-remote"]
TableFormat = Literal["csv", "parquet"]
ExportFormat = Literal["csv", "parquet", "cif", "poscar", "extxyz", "optimade", "pymatgen"]
StoreArg = Annotated[str, typer.Argument(metavar="STORE", help="Folder of the store, or gs://BUCKET/PATH.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="round.toml; `gnome config` prints one.")]
EvaluatorOption = Annotated[str | None, typer.Option("--evaluator", help="Overrides evaluation.evaluator.")]
HoldoutOption = Annotated[Holdout, typer.Option(help="holdout-v1: leave out the withheld chemical systems.")]
RunnerOption = Annotated[
    str | None,
    typer.Option(
        "--runner", help="local | multi | prism | flink | spark | dataflow; `gnome runners` says what is here."
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show what Beam, jax and XLA report.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for scripts (docs/json.md).")]
# Of which crystals of a store molecular dynamics are run.
BandGapsOption = Annotated[
    str | None, typer.Option(help="Table of band_gap (eV) by id or formula; else computed ones, else a model's.")
]
OnlyOption = Annotated[str | None, typer.Option(help="Formulas, ids or beginnings of ids, comma-separated.")]
LimitOption = Annotated[int, typer.Option(min=1, help="Candidates at most, in order of their ids.")]
NewOption = Annotated[bool, typer.Option("--new", help="Only crystals that rounds found.")]
SkipOption = Annotated[float, typer.Option(min=0, help="ps left out at the start of each run.")]
BeamOptions = Annotated[list[str] | None, typer.Argument(metavar="[-- BEAM OPTIONS]", help="As Beam has them.")]
