"""Jobs of a store in a bucket, from emission to delivery, at two numbers of jobs: what grows faster than they do.

The bucket is a folder here, so that what is measured is the code, not requests; a bucket adds a request for each of the
objects that are counted. Jobs are of two atoms and their results of one small file: listing counts, not copying.

    python benchmarks/job_ledger.py 10000 100000
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
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


def main(sizes: list[int]) -> None:
    print(f"{'jobs':>8} {'step':10} {'CPU s':>8} {'us a job':>9}")
    for n in sizes:
        with tempfile.TemporaryDirectory(prefix="gnome-ledger-") as scratch:
            measure(n, Path(scratch))


def measure(n: int, scratch: Path) -> None:
    store = Store(str(scratch / "store"))
    emitted = timed("emit", n, lambda: BucketJobs(store, "espresso").emit({job.id: files(job) for job in made(n)}))
    assert emitted == n
    here = TakenFolder.make(scratch / "cluster", store, "espresso", DftConfig())
    share = -(-n // TAKES)
    taken = timed("take", n, lambda: sum(len(take(here, (i + 1) * share)) for i in range(TAKES)))
    assert taken == n
    for id_ in here.folders.ids():
        attempt = here.folders[id_].claim()
        assert attempt is not None
        (attempt.folder / "static").mkdir()
        (attempt.folder / "static" / "OUT").write_bytes(b"-1.0\n")
        end_attempt(attempt, Ending(State.CONVERGED, steps={"static": "attempts/01/static"}, energy_per_atom=-1.0))
    again = TakenFolder.make(scratch / "cluster", store, "espresso", here.dft)  # another process's
    delivered = timed("deliver", n, lambda: len(deliver(again).ids))
    assert delivered == n
    states = timed("status", n, lambda: Counter(line.state for line in lines_of(BucketJobs(store, "espresso"))))
    assert states == {State.CONVERGED: n}
    objects = sum(path.is_file() for path in (scratch / "store").rglob("*"))
    print(f"{n:8} objects    {objects:8}", flush=True)
    shutil.rmtree(scratch / "cluster")


def made(n: int) -> list[Job]:
    cells = (Crystal(np.eye(3) * (4 + 1e-4 * i), [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8]) for i in range(n))
    return [Job(job_digest(cell, "{}"), cell, "espresso", "{}") for cell in cells]


def files(job: Job) -> dict[str, bytes]:
    return {"job.json": job.to_json(), "inputs/pw.in": b"&control /\n"}


def timed(name: str, n: int, step: Callable):
    before = cpu()
    result = step()
    seconds = cpu() - before
    print(f"{n:8} {name:10} {seconds:8.1f} {1e6 * seconds / n:9.0f}", flush=True)
    return result


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1_000])
