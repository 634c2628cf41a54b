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


def expect(total: int, unit: str, work: float | None = None) -> None:
    """Say how much the stage has to do. work: of all together, where some cost more than others; else as many."""
    _append(f"expect {total} {total if work is None else work!r} {unit}\n")


def advance(n: int = 1, work: float | None = None) -> None:
    """Say that `n` more are done, which were so much of the work."""
    _append(f"done {n} {n if work is None else work!r}\n")


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


def read(path: Path, seconds: float) -> Progress | None:
    """Since the file began, so many seconds ago; None before anybody said how much there is to do."""
    done, worked, total, work, unit = 0, 0.0, 0, 0.0, ""
    for line in path.read_text().splitlines():
        word, number, amount, *rest = line.split()
        if word == "done":
            done, worked = done + int(number), worked + float(amount)
        else:
            total, work, unit = int(number), float(amount), " ".join(rest)
    return Progress(done, total, unit, seconds, worked / work) if total and work else None


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
        far = read(path, 0.0)
        if far is not None:
            bar.update(task, completed=far.part, total=1.0, amount=f"{far.done} of {far.total} {far.unit}")
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
                seconds = time.monotonic() - began
                console.print(progress_line(stage, seconds, read(path, seconds)), soft_wrap=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield begin
    finally:
        over.set()
        teller.join()


def progress_line(stage: str, seconds: float, far: Progress | None) -> str:
    """ "r0001/evaluate    0:01:40 so far, 120 of 400 crystals (30 %), about 0:03:53 left"."""
    line = f"{stage:16}  {timedelta(seconds=round(seconds))} so far"
    return line if far is None else f"{line}, {far}"


class Progress(NamedTuple):
    """How far a stage was so many seconds after it began. share: of the work; None = of the count."""

    done: int
    total: int
    unit: str
    seconds: float
    share: float | None = None

    @property
    def part(self) -> float:
        """Of the work, 0 to 1."""
        return self.done / self.total if self.share is None else min(self.share, 1.0)

    @property
    def seconds_left(self) -> float | None:
        """If it goes on as it went; None where nothing is done yet."""
        return self.seconds * (1 - self.part) / self.part if self.part else None

    def __str__(self) -> str:
        """ "120 of 400 crystals (30 %), about 0:03:53 left"."""
        text, left = f"{self.done} of {self.total} {self.unit} ({100 * self.part:.0f} %)", self.seconds_left
        return text if left is None else f"{text}, about {timedelta(seconds=round(left))} left"


@contextmanager
def kept(keep: Callable[[Progress], None]) -> Generator[None]:
    """While the block runs, a stage in it, give `keep` how far that is, now and then where it got further."""
    over, began = threading.Event(), time.monotonic()

    def watch(path: Path) -> None:
        last = None
        while not over.wait(KEEP_EVERY):
            far = read(path, time.monotonic() - began)
            if far is not None and (far.done, far.total) != last:
                last = far.done, far.total
                with contextlib.suppress(Exception):  # of a full disk or a bucket: nothing depends on it
                    keep(far)

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
