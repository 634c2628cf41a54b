"""Arguments and options that several files of commands share: a name means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreArg = Annotated[str, typer.Argument(metavar="STORE", help="Folder of the store, or gs://BUCKET/PATH.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="round.toml; `gnome config` prints one.")]
EvaluatorOption = Annotated[str | None, typer.Option("--evaluator", help="Overrides evaluation.evaluator.")]
HoldoutOption = Annotated[str, typer.Option(help="none | holdout-v1: leave out the withheld chemical systems.")]
RunnerOption = Annotated[
    str | None,
    typer.Option(
        "--runner", help="local | multi | prism | flink | spark | dataflow; `gnome runners` says what is here."
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show what Beam, jax and XLA report.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for scripts (docs/json.md).")]
BeamOptions = Annotated[list[str] | None, typer.Argument(metavar="[-- BEAM OPTIONS]", help="As Beam has them.")]
