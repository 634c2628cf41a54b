"""Ctrl-C: one line that says how to go on, and exit code 130."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from pipelines.beam.apart import end_at_once, hush_threads
from pipelines.beam.progress import PROGRESS_FILE

INTERRUPTED = 130
CLEAR_LINE_SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"


@contextmanager
def stopped_with(message: Callable[[], str]) -> Generator[None]:
    """While the block runs, an interrupt prints the message and ends the process with all that it started.

    No exception is raised: libraries catch it, wrap it, or are asked in a callback that may raise none. What is not
    committed by then is as if it had not run. Where interrupts are ignored (`nohup`, `&` in scripts) they stay so.
    """

    def stop(*_) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        hush_threads()  # the same signal ends worker processes, and then what waits for them in threads
        if progress := os.environ.get(PROGRESS_FILE):
            shutil.rmtree(Path(progress).parent, ignore_errors=True)
        # Not through streams: another part of this thread may be writing to them just now.
        if sys.stdout.isatty():  # what is running is shown there
            os.write(1, CLEAR_LINE_SHOW_CURSOR.encode())
        os.write(2, f"gnome: {message()}\n".encode(errors="replace"))
        end_at_once(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
