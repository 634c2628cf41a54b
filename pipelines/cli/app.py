"""`gnome`: all commands, each from the file of its subject, and what becomes of a user's mistakes.

A file of commands imports nothing heavy at its top, so that `gnome --help` answers at once. What the commands print, or
do at length, is in a file beside it (`*_text.py`, `export_files.py`, `replay_run.py`), which they import when they run.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from pipelines.cli import (
    analyse,
    compositions,
    config,
    confirm,
    dead,
    dft,
    models,
    outcomes,
    phonons,
    potential,
    relax,
    replay,
    rounds,
    runners,
    store,
)
from pipelines.errors import fault_of

# As `gnome --help` lists them: a panel, and its commands in the order in which they are wanted.
PANELS: dict[str, dict[str, Callable | typer.Typer]] = {
    "Start": {
        "init": rounds.init,
        "config": config.config,
        "compositions": compositions.compositions,
        "seeds": compositions.seeds,
        "runners": runners.app,
    },
    "Rounds": {"round": rounds.app},
    "Look": {
        "top": outcomes.top,
        "confirm": confirm.confirm,
        "report": outcomes.report,
        "serve": outcomes.serve,
        "show": outcomes.show,
        "export": outcomes.export,
        "analyse": analyse.app,
        "dead": dead.dead,
    },
    "Models": {
        "predict": models.predict,
        "train": models.train,
        "evaluate": models.evaluate,
        "relax": relax.relax,
        "judge": relax.judge,
        "phonons": phonons.phonons,
        "potential": potential.app,
        "replay": replay.replay,
        "fit-superionic": analyse.fit_superionic,
    },
    "First principles": {"dft": dft.app},
    "Maintain": {"verify": store.verify, "gc": store.gc, "migrate": store.migrate},
}


class _InOrder(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        return [name for commands in PANELS.values() for name in commands]


app = typer.Typer(
    cls=_InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # every command inherits it
)
for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gnome-flywheel {metadata.version('gnome-flywheel')}")
        raise typer.Exit


@app.callback()
def options(
    log_json: Annotated[
        Path | None,
        typer.Option(
            "--log-json", envvar="GNOME_LOG_JSON", help="File to append a JSON line to for all that is logged."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Discover inorganic crystals: generate, filter, evaluate, learn, again.

    First `gnome init STORE`, then `gnome round run STORE`.
    """
    if log_json:
        os.environ["GNOME_LOG_JSON"] = str(log_json.absolute())  # worker processes inherit it


def main() -> None:
    """Entry point: a fault of the user, of a file or of the machine is one line on stderr and exit code 2."""
    from pipelines.beam.apart import leave
    from pipelines.beam.environment import speak_utf8

    speak_utf8()
    try:
        app()
    except SystemExit as ending:
        leave(ending.code)
    except Exception as error:
        message = fault_of(error)
        if message is None:  # a defect of ours, whose traceback is needed
            traceback.print_exc()
            leave(1)
    from pipelines.cli.terminal import printable

    print(printable(f"gnome: {message}"), file=sys.stderr)
    leave(2)


if __name__ == "__main__":
    main()
