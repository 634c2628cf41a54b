"""Kill a worker process at a random moment of a small run, again and again: every run, and its process, must end.

    python tools/lost_workers.py --kills 200

A run whose worker was killed ends with the message that says so, or, where its work was done by then, with its result.
Prints the count of each ending, with the slowest; exits with 1 if a run ended otherwise or stood still.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import apache_beam as beam

from pipelines.beam.apart import WORKER, leave
from pipelines.beam.runners import run_pipeline, runner_flags
from pipelines.errors import UserError

FLAGS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
DONE, LOST, OTHER = 0, 3, 4  # exit codes of a run
NAMES = {DONE: "done", LOST: "lost worker noticed", OTHER: "another error"}
STILL = 60.0  # s after its worker's death in which a run must have ended


def run() -> None:
    """A few seconds of work in two worker processes, as a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script: nothing may rest on it
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115

    def build(pipeline: beam.Pipeline) -> None:
        numbers = pipeline | beam.Create(range(20)) | beam.Reshuffle() | beam.Map(wait)
        _ = numbers | "Key" >> beam.Map(lambda n: (n % 3, n)) | beam.GroupByKey() | "Again" >> beam.Map(len)

    try:
        run_pipeline(runner_flags(FLAGS), build)
    except UserError as error:
        leave(LOST if "a worker process died" in str(error) else OTHER)
    except Exception:
        leave(OTHER)
    leave(DONE)


def wait(number: int) -> int:
    time.sleep(0.1)
    return number


def workers(pid: int) -> list[int]:
    """Worker processes of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split() if _is_worker(child)]
    return found


def _is_worker(pid: str) -> bool:
    try:
        return WORKER in Path("/proc", pid, "cmdline").read_text()
    except OSError:  # it has ended
        return False


def kill_once(random_: random.Random, longest: float) -> tuple[str, float]:
    """(how the run ended, seconds from the kill to its end)."""
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    while process.is_alive() and not workers(process.pid):
        time.sleep(0.02)
    process.join(random_.uniform(0, longest))
    victims = workers(process.pid) if process.is_alive() else []
    if not victims:
        process.join()
        return "done before the kill", 0.0
    with contextlib.suppress(ProcessLookupError):
        os.kill(random_.choice(victims), signal.SIGKILL)
    begin = time.monotonic()
    process.join(STILL)
    seconds = time.monotonic() - begin
    if process.is_alive():
        process.kill()
        process.join()
        return "stood still", seconds
    return NAMES.get(process.exitcode, f"exit code {process.exitcode}"), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no more is killed")
    parser.add_argument("--longest", type=float, default=8.0, help="seconds that a worker lives at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random_, endings, slowest = random.Random(options.seed), Counter(), 0.0
    end = time.monotonic() + 60 * options.minutes
    while endings.total() - endings["done before the kill"] < options.kills and time.monotonic() < end:
        ending, seconds = kill_once(random_, options.longest)
        endings[ending] += 1
        slowest = max(slowest, seconds)
    print(json.dumps({**endings, "slowest": round(slowest, 1)}))
    raise SystemExit(not set(endings) <= {"done", "lost worker noticed", "done before the kill"})


if __name__ == "__main__":
    main()
