"""The terminal: ids, formulas and paths are printed as they are, whatever a file was called."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

WIDTH_ELSEWHERE = 200  # columns of what is no terminal: a reader of files and pipes can scroll, and nothing is cut


class Terminal(Console):
    """A console that takes texts for texts: brackets are no markup, and control characters never reach the screen.

    Cells and titles of tables go the same way.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False, file: IO[str] | None = None):
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, file=file, markup=False, emoji=False, highlight=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = WIDTH_ELSEWHERE

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def printable(text: object) -> str:
    """The text with a "?" for every control character but the end of a line: none moves the cursor or colours."""
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf") and c != "\n" else c for c in str(text))


@contextmanager
def progress_bar(what: str, total: int, unit: str) -> Generator[Callable[[int], None]]:
    """A bar on stderr that is gone at the end; the block is given what moves it on by so many."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{what} ({unit})", total=total)
        yield lambda n: bar.advance(task, n)
