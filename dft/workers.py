"""Running job folders on this machine: worker processes that take job after job until none is left to take."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft.config import DftConfig
from dft.engines import make_engine
from dft.jobs.engine import run_attempt, tied
from dft.jobs.folders import HEARTBEAT, Attempt, JobFolders, State

LOG = "workers.log"
TOO_MANY = 3  # jobs in a row that the machine failed: then it is not the jobs


@dataclass(frozen=True)
class Begun:
    """A worker took a job."""

    job: str


@dataclass(frozen=True)
class Ended:
    """A job ended. seconds: wall time of the attempt."""

    job: str
    state: State
    reason: str
    message: str
    seconds: float


@dataclass(frozen=True)
class WorkerDied:
    """A worker process ended before its work was done; the job it had in hand is stale, the next run takes it up."""

    code: int
    log: str


def run_jobs(
    root: str | Path, evaluator: str, dft: DftConfig, ids: Sequence[str], *, submitted: bool = False
) -> Iterator[Begun | Ended | WorkerDied]:
    """Run those of the jobs that wait or are stale, `dft.workers` at a time.

    submitted: also those that wait in a queue. Closing the iterator, or this process's end, ends the workers; what
    they had in hand is then stale. Raises EngineMissing before anything starts.
    """
    make_engine(evaluator, dft).check()
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    task = {
        "root": str(root),
        "evaluator": evaluator,
        "dft": dft.model_dump(),
        "ids": list(ids),
        "submitted": submitted,
    }
    workers = [_start_worker(root, task) for _ in range(min(dft.workers, max(1, len(ids))))]
    try:
        yield from _events(workers, root)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def _start_worker(root: Path, task: dict) -> subprocess.Popen:
    with open(root / LOG, "ab") as log:
        worker = subprocess.Popen(
            tied([sys.executable, "-m", "dft.workers"], "TERM"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
        )
    assert worker.stdin
    worker.stdin.write(json.dumps(task).encode())
    worker.stdin.close()
    return worker


def _events(workers: Sequence[subprocess.Popen], root: Path) -> Iterator[Begun | Ended | WorkerDied]:
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            assert worker.stdout
            selector.register(worker.stdout, selectors.EVENT_READ, worker)
        while selector.get_map():
            for key, _ in selector.select():
                worker = key.data
                line = worker.stdout.readline()
                if line:
                    yield _event(json.loads(line))
                    continue
                selector.unregister(worker.stdout)
                if code := worker.wait():
                    yield WorkerDied(code, str(root / LOG))


def _event(document: dict[str, Any]) -> Begun | Ended:
    if "state" not in document:
        return Begun(document["job"])
    return Ended(state=State(document.pop("state")), **document)


# The worker process


def main() -> None:
    """Do the task that the parent writes to stdin, telling it of every job on stdout."""
    task = json.load(sys.stdin)
    # Libraries print; only this pipe is for the parent.
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that engines under way are ended
    engine = make_engine(task["evaluator"], DftConfig.model_validate(task["dft"]))
    folders = JobFolders(task["root"])
    left, in_a_row = 0, 0
    for id_ in task["ids"]:
        try:
            folder = folders[id_]
            attempt = folder.claim(task["submitted"])
            if attempt is None:
                continue
            print(json.dumps({"job": id_}), file=pipe)
            with _heartbeat(attempt):
                ending = run_attempt(folder, attempt, engine)
        except BrokenPipeError:
            raise  # the parent is gone
        except OSError:  # the machine's: the job is stale when this process ends, and the others have their turn
            traceback.print_exc()
            left, in_a_row = left + 1, in_a_row + 1
            if in_a_row == TOO_MANY:
                break
            continue
        in_a_row = 0
        event = {"job": id_, "state": ending.state, "reason": ending.reason, "message": ending.message}
        print(json.dumps({**event, "seconds": ending.seconds}), file=pipe)
    if left:
        sys.exit(1)


@contextmanager
def _heartbeat(attempt: Attempt) -> Generator[None]:
    """Touch the claim now and then, so that other machines see the job is in hand."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            os.utime(attempt.folder / "claim.json")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
