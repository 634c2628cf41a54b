"""Kill driver and workers at random while rounds run, resume, and compare with rounds that nothing disturbed.

    python tools/soak.py --kills 100 --minutes 20

Rounds run on two worker processes. A kill is a SIGKILL, after a random time, of a worker or of the driver with all its
workers. Ends with the number of kills and whether every committed row is there once; the last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core.crystals.readers import embedded_entries
from pipelines.rounds.plan import stages_of
from pipelines.rounds.verify import verify
from pipelines.store.store import Store

ROUND_TOML = """
seed = 5
[generation]
max_recipes_per_parent = 8
max_sites = 4
known = "snapshot"
[model]
width = 8
steps = 1
[scoring]
members = 2
max_candidates = 60
[scoring.cascade]
refine = 12
[selection]
budget = 3
random_baseline = 2
threshold = 0.5
[evaluation]
max_steps = 12
fmax = 0.3
batch_size = 2
[training]
first = "scratch"
epochs = 2
fine_tune_epochs = 1
"""
WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
GNOME = (sys.executable, "-m", "pipelines.cli.app")


@dataclass
class Soaked:
    """What was done to a store."""

    kills: dict[str, int] = field(default_factory=lambda: {"driver": 0, "worker": 0})
    resumes: int = 0
    rounds: int = 0
    stages: set[str] = field(default_factory=set)  # that were running at a kill

    @property
    def n_kills(self) -> int:
        return sum(self.kills.values())


def write_inputs(folder: Path) -> tuple[str, ...]:
    """Write a snapshot of a few dozen crystals and settings that make a round take seconds; `gnome init` options."""
    entries = embedded_entries({"Li", "Mg", "Cu"}).sort_by("id")
    small = pc.less_equal(pc.list_value_length(entries["numbers"]), 4)
    pq.write_table(entries.filter(small), folder / "snapshot.parquet")
    (folder / "round.toml").write_text(ROUND_TOML)
    return "--snapshot", str(folder / "snapshot.parquet"), "--config", str(folder / "round.toml")


def make_store(folder: Path) -> Path:
    """A store of a few dozen crystals after its first round's training."""
    store = folder / "undisturbed"
    subprocess.run([*GNOME, "init", str(store), *write_inputs(folder)], check=True, capture_output=True)
    return store


def soak(store: Path, kills: int, seconds: float, longest: float, seed: int) -> Soaked:
    """Run rounds and kill at random until so many kills or seconds; then let the last round finish.

    longest: seconds that a process lives at most before it is killed.
    """
    random_, done, end = random.Random(seed), Soaked(), time.monotonic() + seconds
    while done.n_kills < kills and time.monotonic() < end:
        command = "run" if Store(str(store)).is_closed(done.rounds) else "resume"
        started = start(command, store)
        done.resumes += command == "resume"
        disturb(started, store, random_, longest, done, kills)
        done.rounds = Store(str(store)).rounds()[-1]
    finished = start("resume", store)
    if finished.wait() != 0:
        raise SystemExit(f"the last resume failed with exit code {finished.returncode}")
    return done


def start(command: str, store: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*GNOME, "round", command, str(store), "--", *WORKERS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )


def disturb(driver: subprocess.Popen, store: Path, random_: random.Random, longest: float, done: Soaked, kills: int):
    """Kill workers, and in the end the driver, of one command; a command that ends by itself is left."""
    while done.n_kills < kills:
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=random_.uniform(0, longest))
            return
        workers = list(descendants(driver.pid))
        victim = "worker" if workers and random_.random() < 0.5 else "driver"
        done.kills[victim] += 1
        done.stages.add(running_stage(store))
        if victim == "driver":
            os.killpg(driver.pid, signal.SIGKILL)  # as a machine that loses its power
            driver.wait()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(random_.choice(workers), signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        driver.wait(timeout=60)  # Beam waits for a worker that was killed without end
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from descendants(child)


def running_stage(path: Path | str) -> str:
    store = Store(str(path), keep=False)
    round_ = store.rounds()[-1]
    return next((stage for stage in stages_of(round_) if store.commit(round_, stage) is None), "none")


def commits(path: Path, rounds: int) -> dict[str, str]:
    """Digest of every commit: of rows, counts and what it was made of."""
    store = Store(str(path))
    keys = [(round_, stage) for round_ in range(rounds + 1) for stage in stages_of(round_)]
    return {f"{round_}/{stage}": c.digest for round_, stage in keys if (c := store.commit(round_, stage))}


def rows(path: Path, rounds: int) -> tuple[int, int]:
    """(committed rows, how many of them have a key that an earlier row of their table has)."""
    store, total, repeated = Store(str(path)), 0, 0
    for round_ in range(rounds + 1):
        for stage in stages_of(round_):
            commit = store.commit(round_, stage)
            for table in {stat.table for stat in commit.files if stat.path.endswith(".parquet")} if commit else ():
                parts = [store.open_parquet(stat).read() for stat in commit.files if stat.table == table]
                whole = pa.concat_tables(parts)
                keys = [
                    name for name in ("id", "digest", "name", "job", "step", "formula") if name in whole.schema.names
                ]
                keys = ["id"] if "id" in keys else ["digest"] if "digest" in keys else keys
                total += len(whole)
                repeated += len(whole) - len(whole.group_by(keys).aggregate([]))
    return total, repeated


def compare(disturbed: Path, undisturbed: Path, rounds: int) -> dict[str, int]:
    """Rows lost and duplicated against the undisturbed store, stages whose digest differs, complaints of `verify`."""
    expected, found = commits(undisturbed, rounds), commits(disturbed, rounds)
    n_expected, _ = rows(undisturbed, rounds)
    n_found, repeated = rows(disturbed, rounds)
    return {
        "rows": n_found,
        "lost": max(0, n_expected - n_found + repeated),
        "duplicated": repeated,
        "different": sum(found.get(key) != digest for key, digest in expected.items()),
        "complaints": len(list(verify(Store(str(disturbed))))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=20.0, help="after which no more is killed")
    parser.add_argument("--longest", type=float, help="seconds until the next kill; minutes / kills by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        undisturbed, disturbed = make_store(Path(folder)), Path(folder, "disturbed")
        shutil.copytree(undisturbed, disturbed)
        if start("run", undisturbed).wait() != 0:
            raise SystemExit("the undisturbed round failed")
        longest = options.longest or 60 * options.minutes / options.kills  # half of it on average
        done = soak(disturbed, options.kills, 60 * options.minutes, longest, options.seed)
        rounds = Store(str(disturbed)).rounds()[-1]
        for _ in range(1, rounds):
            start("run", undisturbed).wait()
        outcome = compare(disturbed, undisturbed, rounds)
    print(f"{done.kills} killed during {', '.join(sorted(done.stages))}; {rounds} rounds, {done.resumes} resumes")
    summary = {"kills": done.kills, "rounds": rounds, **outcome, "seconds": round(time.monotonic() - begin)}
    print(json.dumps(summary))
    raise SystemExit(any(outcome[name] for name in ("lost", "duplicated", "different", "complaints")))


if __name__ == "__main__":
    main()
