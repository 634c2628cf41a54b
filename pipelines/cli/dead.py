"""`gnome dead`: the rows that could not be used, by name."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.options import StoreArg

if TYPE_CHECKING:
    from pipelines.store.records import FileStat
    from pipelines.store.store import Store

NAMED = 5  # rows that other commands name


def dead(
    store: StoreArg,
    round_: Annotated[int | None, typer.Option("--round", min=0, help="Of this round alone; 0: the snapshot.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a row, for scripts (docs/json.md).")] = False,
) -> None:
    """List the rows that no stage could use: stage, reason, and what is wrong with which row of which file."""
    import json

    from pipelines.cli.terminal import printable
    from pipelines.errors import UserError
    from pipelines.reading.dead import dead_rows
    from pipelines.rounds.plan import stages_of
    from pipelines.store.store import Store

    opened, n = Store.open(store), 0
    rounds = opened.rounds()
    if round_ is not None and round_ not in rounds:
        raise UserError(f"--round {round_}: the store has rounds 0 to {rounds[-1]}")
    for number in rounds if round_ is None else [round_]:
        for stage in stages_of(number):
            commit = opened.commit(number, stage)
            for row in dead_rows(opened, commit.files if commit else ()):
                n += 1
                if as_json:
                    typer.echo(json.dumps({"round": number, "stage": stage, **row._asdict()}))
                else:
                    typer.echo(printable(f"r{number:04d}/{stage}  {row.key}  {row.reason}: {row.message}"))
    if not n and not as_json:
        typer.echo("no dead rows")


def first_dead(store: Store, files: Iterable[FileStat], all_by: str) -> list[str]:
    """Lines that name the first dead rows of a commit or manifest, and what lists all; none where there are none.

    all_by: the command or file that has them all.
    """
    from pipelines.reading.dead import dead_rows

    dead_files = [stat for stat in files if stat.table == "dead"]
    lines = [f"  {row.reason}: {row.message}" for row in islice(dead_rows(store, dead_files), NAMED)]
    total = sum(stat.rows for stat in dead_files)
    return [*lines, f"  and {total - NAMED} more; {all_by} has all"] if total > NAMED else lines
