"""`gnome round drop`: give up the open round."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.hints import say_next
from pipelines.cli.options import StoreArg


def drop(
    store: StoreArg,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give up the round that is not closed: its settings and all that its stages have written.

    Earlier rounds, and jobs in folders with their results, stay. Stop what runs the round first.
    """
    from pipelines.rounds.drop import drop_round, would_go
    from pipelines.store.store import Store

    opened = Store.open(store)
    going = would_go(opened)
    for line in going.lines():
        typer.echo(line)
    if not yes:
        typer.confirm("remove it?", abort=True)
    drop_round(opened, going.round)
    typer.echo(f"round {going.round} is dropped")
    say_next(("round", "run", store) if going.round else ("init", store))
