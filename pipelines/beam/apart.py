"""Runs of Beam apart from the thread that asks for them, which can leave one that will never end."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NoReturn, TypeVar

from pipelines.errors import UserError

WORKER = "pipelines.beam.worker"  # the module that worker processes run
LOOK_UP = 1.0  # s after which a waiting thread looks whether it was interrupted, should the system wake another

T = TypeVar("T")
_idle: list[SimpleQueue] = []  # of threads that wait for work
_waiting: set[SimpleQueue] = set()  # of callers, who hear of a lost worker
_abandoned: list[SimpleQueue] = []
_left: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # of abandoned runs: their ends are no news


def run_apart(work: Callable[[], T]) -> T:
    """What `work` gives or raises, done in another thread. Raises UserError as soon as a worker process dies.

    Beam waits without end for a worker that died, in a call that nothing is sure to wake: the thread is then left
    where it is, as it is after an interrupt, and the worker processes are ended. It is a daemon, as all threads that it
    starts are; what it computes without worker processes goes on until the process ends (see `leave`).
    """
    _hear_of_lost_workers()
    tasks, outcome = _idle.pop() if _idle else _start_thread(), SimpleQueue()
    _waiting.add(outcome)
    try:
        tasks.put((work, outcome))
        result, error = _next(outcome)
    except BaseException:
        _abandon(tasks)
        end_workers()
        raise
    finally:
        _waiting.discard(outcome)
    if isinstance(error, _WorkerLost):
        _abandon(tasks)
        raise UserError(f"a worker process died ({error}); was memory short? `gnome round resume` goes on")
    _idle.append(tasks)
    if error is not None:
        raise error
    return result


def _abandon(tasks: SimpleQueue) -> None:
    _abandoned.append(tasks)
    _left.update(threading.enumerate())


class _WorkerLost(Exception):
    """How a worker process ended."""


def _start_thread() -> SimpleQueue:
    """The queue of a thread that does one task after the other. It stays: the engines that Beam starts are bound to
    the life of the thread that started them (`setpriv --pdeathsig`), and serve several runs."""
    tasks = SimpleQueue()

    def run() -> None:
        while True:
            work, outcome = tasks.get()
            try:
                outcome.put((work(), None))
            except BaseException as error:
                outcome.put((None, error))
            del work, outcome

    threading.Thread(target=run, name="beam", daemon=True).start()
    return tasks


def _next(outcome: SimpleQueue) -> tuple:
    while True:
        with suppress(Empty):
            return outcome.get(timeout=LOOK_UP)


@lru_cache(maxsize=1)
def _hear_of_lost_workers() -> None:
    """Beam raises in the thread that started a worker process when that dies, and in no other."""
    report = threading.excepthook

    def notice(args) -> None:
        if args.thread in _left:
            return
        if "Worker subprocess exited" not in str(args.exc_value):
            report(args)
            return
        end_workers()
        for outcome in list(_waiting):
            outcome.put((None, _WorkerLost(str(args.exc_value).lower())))

    threading.excepthook = notice


def end_workers() -> None:
    """End the worker processes of this one, which would otherwise first finish what they are at. (Linux.)"""
    for pid in _children():
        with suppress(OSError):
            if WORKER in Path("/proc", str(pid), "cmdline").read_text():
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += [int(pid) for pid in children.read_text().split()]
    return found


def leave(code: int | str | None) -> NoReturn:
    """End this process without the interpreter's own end, which threads of pipelines and of C++ libraries may keep or
    crash ("terminate called without an active exception", an exit code of -6).

    What is registered for the end is done, unless a run was abandoned: its threads may hold what that waits for.
    """
    if isinstance(code, str):
        print(code, file=sys.stderr)
    if not _abandoned:
        atexit._run_exitfuncs()
    end_at_once(code if isinstance(code, int) else int(bool(code)))


def hush_threads() -> None:
    """From now on, how threads end is no news: what they worked with is being taken from them."""
    threading.excepthook = lambda args: None


def end_at_once(code: int) -> NoReturn:
    """End this process and all that it started, wherever its threads are."""
    hush_threads()
    end_workers()
    for pid in _children():  # engines and pools, which may have programs of their own to end
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    os._exit(code)
