"""`gnome`: all commands, each from the file of its subject, and what becomes of a user's mistakes.

A file of commands imports nothing heavy at its top, so that `gnome --help` answers at once. What the commands print, or
do at length, is in a file beside it (`*_text.py`, `export_files.py`, `replay_run.py`), which they import when they run.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import (
    analyse,
    compositions,
    config,
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

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The GNoME flywheel."
)
for command in (
    rounds.init,
    outcomes.report,
    outcomes.show,
    outcomes.export,
    compositions.compositions,
    compositions.seeds,
    replay.replay,
    analyse.fit_superionic,
    config.config,
    models.train,
    models.predict,
    models.evaluate,
    relax.relax,
    phonons.phonons,
    relax.judge,
    dead.dead,
    store.verify,
    store.gc,
    store.migrate,
):
    app.command()(command)
app.add_typer(rounds.app, name="round")
app.add_typer(analyse.app, name="analyse")
app.add_typer(dft.app, name="dft")
app.add_typer(potential.app, name="potential")
app.add_typer(runners.app, name="runners")


@app.callback()
def options(
    log_json: Annotated[
        Path | None,
        typer.Option(
            "--log-json", envvar="GNOME_LOG_JSON", help="File to append a JSON line to for all that is logged."
        ),
    ] = None,
) -> None:
    """The GNoME flywheel."""
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
