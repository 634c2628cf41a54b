"""`gnome runners`: what `--runner` can be on this machine, and getting what it lacks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipelines.cli.hints import say_next
from pipelines.cli.options import JsonOption

app = typer.Typer(help="What --runner can be on this machine, and what is missing.", invoke_without_command=True)


@app.callback()
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show every runner, whether it can be used here, and the command that gets what is missing."""
    if context.invoked_subcommand:
        return
    from pipelines.beam.job_servers import runner_states

    states = runner_states()
    if as_json:
        from pipelines.cli.json_text import print_json

        print_json({"runners": [asdict(state) for state in states]})
        return
    for state in states:
        typer.echo(f"{state.name:9} {'ready' if state.ready else 'missing':8} {state.what}")


@app.command()
def install(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="prism | flink | spark")],
    beam: Annotated[
        str | None,
        typer.Option(help="Another version of Beam, where a registry lacks the installed one's engine."),
    ] = None,
) -> None:
    """Build Prism with Go, or get a job server with Maven, into the user's cache folder."""
    from pipelines.beam.environment import set_up
    from pipelines.beam.job_servers import install_engine

    set_up(verbose=False)
    installed = install_engine(engine, beam)
    typer.echo(f"{installed.name} of Beam {installed.beam} is in {installed.folder}")
    say_next(("round", "run", "STORE", "--runner", installed.name))
