"""Jobs of a store in a bucket, from emission to delivery, at two numbers of jobs: what grows faster than they do.

The bucket is a folder here, so that what is measured is the code, not requests. Jobs are taken in twenty shares and
delivered at once. Jobs are of two atoms and their results of one small file: listing counts, not copying.

    python benchmarks/job_ledger.py [--quick] [N ...]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dft.config import DftConfig
from dft.jobs.folders import Ending, Job, State, end_attempt
from dft.tables import job_digest
from gnome_core.crystals.crystal import Crystal
from pipelines.cli.dft_text import lines_of
from pipelines.evaluation.taken_jobs import TakenFolder, deliver, take
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.store.store import Store

TAKES = 20  # machines, or times that one asks for more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", type=int, default=[10_000, 100_000], help="numbers of jobs")
    parser.add_argument("--quick", action="store_true", help="1,000 and 3,000")
    given = parser.parse_args()
    figures = {}
    for n in [1_000, 3_000] if given.quick else given.jobs:
        with tempfile.TemporaryDirectory(prefix="gnome-ledger-") as scratch:
            figures[str(n)] = measure(n, Path(scratch))
            print(f"{n} jobs, CPU s: {', '.join(f'{step} {s:g}' for step, s in figures[str(n)].items())}", flush=True)
    print(json.dumps({"benchmark": "job_ledger", "cpu_s": figures}))


def measure(n: int, scratch: Path) -> dict[str, float]:
    """CPU seconds of each command."""
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable):
        before = time.process_time()
        result = step()
        seconds[name] = round(time.process_time() - before, 1)
        return result

    store = Store(str(scratch / "store"))
    emitted = timed("emit", lambda: BucketJobs(store, "espresso").emit({job.id: files(job) for job in made(n)}))
    assert emitted == n
    here = TakenFolder.make(scratch / "cluster", store, "espresso", DftConfig())
    share = -(-n // TAKES)
    taken = timed("take", lambda: sum(len(take(here, (i + 1) * share)) for i in range(TAKES)))
    assert taken == n
    for id_ in here.folders.ids():
        attempt = here.folders[id_].claim()
        assert attempt is not None
        (attempt.folder / "static").mkdir()
        (attempt.folder / "static" / "OUT").write_bytes(b"-1.0\n")
        end_attempt(attempt, Ending(State.CONVERGED, steps={"static": "attempts/01/static"}, energy_per_atom=-1.0))
    again = TakenFolder.make(scratch / "cluster", store, "espresso", here.dft)  # another process's
    delivered = timed("deliver", lambda: len(deliver(again).ids))
    assert delivered == n
    states = timed("status", lambda: Counter(line.state for line in lines_of(BucketJobs(store, "espresso"))))
    assert states == {State.CONVERGED: n}
    return seconds


def made(n: int) -> list[Job]:
    cells = (Crystal(np.eye(3) * (4 + 1e-4 * i), [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8]) for i in range(n))
    return [Job(job_digest(cell, "{}"), cell, "espresso", "{}") for cell in cells]


def files(job: Job) -> dict[str, bytes]:
    return {"job.json": job.to_json(), "inputs/pw.in": b"&control /\n"}


if __name__ == "__main__":
    main()
