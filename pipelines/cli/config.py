"""`gnome config`, and the settings that a command works with: a file's, with what the command line overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.rounds.config import RoundConfig


def config(
    preset: Annotated[
        str | None,
        typer.Option(help="tiny | laptop | cluster | paper: values for a machine in place of the defaults."),
    ] = None,
) -> None:
    """Print a round.toml with every setting, its value and what it means."""
    from pipelines.rounds.config import RoundConfig
    from pipelines.rounds.presets import PRESETS
    from pipelines.rounds.presets import preset as settings_of
    from pipelines.rounds.toml import config_toml

    if preset is None:
        typer.echo(config_toml(RoundConfig()), nl=False)
    else:
        settings = settings_of(preset)
        typer.echo(config_toml(settings, f"Settings of a round, preset {preset}: {PRESETS[preset].purpose}"), nl=False)


def round_config(
    path: Path | None,
    base: RoundConfig | None = None,
    snapshots: Sequence[str] | None = None,
    chemsys: str | None = None,
    evaluator: str | None = None,
    recompute: bool = False,
) -> RoundConfig:
    """The settings in the file, else `base`, else the defaults; then what else is given. Raises UserError."""
    from pipelines.rounds.config import RoundConfig, load_config, parse_config

    settings = load_config(str(path)) if path else base or RoundConfig()
    if snapshots:
        given = snapshots[0] if len(snapshots) == 1 else tuple(snapshots)
        settings = settings.model_copy(update={"snapshot": given})
    if chemsys is not None:
        elements = tuple(symbol.strip() for symbol in chemsys.split("-"))
        settings = settings.model_copy(update={"snapshot_elements": elements})
    if recompute:
        settings = parse_config({**settings.document(), "recompute": True}, "--recompute")
    if evaluator:
        document = settings.document()
        document["evaluation"]["evaluator"] = evaluator
        settings = parse_config(document, "--evaluator")
    return settings
