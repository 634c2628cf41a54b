"""What usually comes next, said at the end of a command: on stderr, so that outputs are what they are without it."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer


def say_next(*commands: tuple[str | Path, ...]) -> None:
    """One line with the commands, to be copied. Each is its words, without `gnome`; FILE and its like are to be filled
    in."""
    from pipelines.cli.terminal import printable

    lines = (" ".join(("gnome", *(shlex.quote(str(word)) for word in words))) for words in commands)
    typer.echo(printable(f"next: {', then '.join(lines)}"), err=True)


def say_next_of_jobs(store: str) -> None:
    """What takes the results of a store's first-principles jobs, or of a folder that they were taken into."""
    from pipelines.evaluation.emitted_jobs import EmittedFolder
    from pipelines.evaluation.taken_jobs import TakenFolder
    from pipelines.store.storage import is_local
    from pipelines.store.store import Store

    if is_local(store) and TakenFolder.open(Path(store)):
        say_next(("dft", "deliver", store))
        return
    if is_local(store) and EmittedFolder.open(Path(store)):
        say_next(("dft", "collect", store, "-o", "OUT"))
        return
    opened = Store(store)
    rounds = opened.rounds()
    if not rounds:
        return
    if opened.is_closed(rounds[-1]):
        say_next(("round", "run", store))
    else:
        say_next(("round", "learn" if rounds[-1] else "resume", store))
