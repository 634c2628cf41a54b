"""How far the running stage is. Workers on this machine append to one file, which they inherit; the driver reads it.

Progress is for people: nothing depends on it, and workers elsewhere report none.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

PROGRESS_FILE = "GNOME_PROGRESS"
KEEP_EVERY = 5.0  # s between what the store is told
LINE_EVERY = 30.0  # s between the lines of a stage that runs, where no terminal shows a bar


def expect(total: int, unit: str) -> None:
    """Say how much the stage has to do."""
    _append(f"expect {total} {unit}\n")


def advance(n: int = 1) -> None:
    """Say that `n` more are done."""
    _append(f"done {n}\n")


def tell(line: str) -> None:
    """Say a line to whoever watches, from the driver."""
    for say in _watching:
        say(line)


_watching: list[Callable[[str], None]] = []


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
    """While the block runs, show how far the stage is that was last given to the yielded function: a bar on a
    terminal, a line now and then anywhere else."""
    display = _bar if console.is_terminal else _lines

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    with _progress_file() as path, display(console, path) as begin:
        _watching.append(say)
        try:
            yield begin
        finally:
            _watching.remove(say)


@contextmanager
def _bar(console: Console, path: Path) -> Generator[Callable[[str], None]]:
    from rich.live import Live
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    task = bar.add_task("", total=None, amount="")

    def begin(stage: str) -> None:
        path.write_bytes(b"")
        bar.reset(task, description=stage, total=None, amount="")

    def render() -> Bar:
        done, total, unit = read(path)
        bar.update(task, completed=done, total=total, amount=f"{done} of {total} {unit}" if total else "")
        return bar

    with Live(console=console, get_renderable=render, refresh_per_second=2, transient=True):
        yield begin


@contextmanager
def _lines(console: Console, path: Path) -> Generator[Callable[[str], None]]:
    stage, began, over = "", 0.0, threading.Event()

    def begin(name: str) -> None:
        nonlocal stage, began
        path.write_bytes(b"")
        stage, began = name, time.monotonic()

    def tell() -> None:
        while not over.wait(LINE_EVERY):
            if stage:
                console.print(progress_line(stage, time.monotonic() - began, *read(path)), soft_wrap=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield begin
    finally:
        over.set()
        teller.join()


def progress_line(stage: str, seconds: float, done: int, total: int | None, unit: str) -> str:
    """ "r0001/evaluate    0:01:40 so far, 120 of 400 crystals (30 %), about 0:03:53 left"."""
    line = f"{stage:16}  {timedelta(seconds=round(seconds))} so far"
    return f"{line}, {Progress(done, total, unit, seconds)}" if total else line


class Progress(NamedTuple):
    """How far a stage was so many seconds after it began."""

    done: int
    total: int
    unit: str
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """If it goes on as it went; None where nothing is done yet."""
        return self.seconds * (self.total - self.done) / self.done if self.done else None

    def __str__(self) -> str:
        """ "120 of 400 crystals (30 %), about 0:03:53 left"."""
        text, left = (
            f"{self.done} of {self.total} {self.unit} ({100 * self.done / self.total:.0f} %)",
            self.seconds_left,
        )
        return text if left is None else f"{text}, about {timedelta(seconds=round(left))} left"


@contextmanager
def kept(keep: Callable[[Progress], None]) -> Generator[None]:
    """While the block runs, a stage in it, give `keep` how far that is, now and then where it got further."""
    over, began = threading.Event(), time.monotonic()

    def watch(path: Path) -> None:
        last = None
        while not over.wait(KEEP_EVERY):
            done, total, unit = read(path)
            if total and (done, total) != last:
                last = done, total
                with contextlib.suppress(Exception):  # of a full disk or a bucket: nothing depends on it
                    keep(Progress(done, total, unit, time.monotonic() - began))

    with _progress_file() as path:
        keeper = threading.Thread(target=watch, args=(path,), name="progress-kept", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()


@contextmanager
def _progress_file() -> Generator[Path]:
    """The file that workers append to: the one there is, or one for the block."""
    if there := os.environ.get(PROGRESS_FILE):
        yield Path(there)
        return
    with tempfile.TemporaryDirectory(prefix="gnome-") as folder:
        path = Path(folder, "progress")
        path.write_bytes(b"")
        os.environ[PROGRESS_FILE] = str(path)
        try:
            yield path
        finally:
            del os.environ[PROGRESS_FILE]


def rough_duration(seconds: float) -> str:
    """ "45 s", "12 minutes", "3.4 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"
