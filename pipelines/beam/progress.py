"""How far the running stage is. Workers on this machine append to one file, which they inherit; the driver reads it.

Progress is for people: nothing depends on it, and workers elsewhere report none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PROGRESS_FILE = "GNOME_PROGRESS"


def expect(total: int, unit: str) -> None:
    """Say how much the stage has to do."""
    _append(f"expect {total} {unit}\n")


def advance(n: int = 1) -> None:
    """Say that `n` more are done."""
    _append(f"done {n}\n")


def _append(line: str) -> None:
    path = os.environ.get(PROGRESS_FILE)
    if path:
        with open(path, "ab", buffering=0) as file:  # one write: lines of several processes do not mix
            file.write(line.encode())


def read(path: Path) -> tuple[int, int | None, str]:
    """(done, total or None, unit) since the file began."""
    done, total, unit = 0, None, ""
    for line in path.read_text().splitlines():
        word, number, *rest = line.split()
        if word == "done":
            done += int(number)
        else:
            total, unit = int(number), " ".join(rest)
    return done, total, unit


@contextmanager
def shown(console: Console) -> Generator[Callable[[str], None]]:
    """While the block runs, show a line about the stage that was last given to the yielded function."""
    from rich.live import Live
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    task = bar.add_task("", total=None, amount="")
    with tempfile.TemporaryDirectory(prefix="gnome-") as folder:
        path = Path(folder, "progress")

        def begin(stage: str) -> None:
            path.write_bytes(b"")
            bar.reset(task, description=stage, total=None, amount="")

        def render() -> Progress:
            done, total, unit = read(path)
            bar.update(task, completed=done, total=total, amount=f"{done} of {total} {unit}" if total else "")
            return bar

        path.write_bytes(b"")
        os.environ[PROGRESS_FILE] = str(path)
        try:
            with Live(console=console, get_renderable=render, refresh_per_second=2, transient=True):
                yield begin
        finally:
            del os.environ[PROGRESS_FILE]
