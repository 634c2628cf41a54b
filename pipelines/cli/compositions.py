"""`gnome compositions` and `gnome seeds`: what random search will look at, before a round does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.config import round_config
from pipelines.cli.options import ConfigOption

if TYPE_CHECKING:
    from gnome_core.generation.config import GenerationConfig


def compositions(
    formulas: Annotated[list[str] | None, typer.Argument(metavar="[FORMULA...]", help="Judge these.")] = None,
    elements: Annotated[str | None, typer.Option(help="As Li,Si,O; overrides generation.elements.")] = None,
    config: ConfigOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Text file of those that pass.")] = None,
) -> None:
    """Count the compositions that random search would take, and the share that each oxidation rule lets pass."""
    from pipelines.cli.composition_text import print_compositions

    print_compositions(_generation(config, formulas, elements), output)


def seeds(
    formulas: Annotated[list[str], typer.Argument(metavar="FORMULA...", help="Such as Li15Si4.")],
    config: ConfigOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the .cell files.")] = Path("seeds"),
) -> None:
    """Write commented .cell seeds for AIRSS, with the settings that our own random search uses."""
    from pipelines.cli.composition_text import write_seeds

    for path in write_seeds(formulas, _generation(config), output):
        typer.echo(path)


def _generation(path: Path | None, formulas: list[str] | None = None, elements: str | None = None) -> GenerationConfig:
    """The [generation] table with what the command line says about compositions."""
    from pipelines.rounds.config import RoundConfig
    from pipelines.rounds.toml import parse_settings

    document = round_config(path).document()
    if formulas:
        document["generation"]["compositions"]["formulas"] = formulas
    if elements:
        document["generation"]["elements"] = [symbol.strip() for symbol in elements.split(",")]
    return parse_settings(RoundConfig, document, "command line").generation
