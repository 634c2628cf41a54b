"""Attack a store in all the ways that docs/reliability.md promises something about, and print what came of it.

    python -m tools.attack FOLDER --minutes 30

FOLDER is made, and holds small stores on the embedded evaluator. Every part has a share of the time and does as much as
fits into it; what it says it did, it did. Prints a table in Markdown; exits with 1 if any promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.by_name import shipped_path
from pipelines.beam.apart import WORKER
from pipelines.beam.job_servers import find_engine
from pipelines.rounds.plan import stages_of
from pipelines.rounds.verify import verify
from pipelines.store.store import Store
from tests.pipelines.store.gcs import FakeGcs
from tools import soak

GNOME = soak.GNOME
# Files of a closed store that nobody reads, or that are checked where they are read and made again.
HARMLESS = {
    "attempt": r"attempts/\*/(JOB|MANIFEST|DONE|LAUNCHED)\.json",
    "progress": r"attempts/\*/PROGRESS\.json",
    "known compositions": r"attempts/\*/known_compositions",
    "checkpoint": r"train/checkpoints/",
    "graphs": r"^cache/graphs",  # a zip archive with a checksum of every array
    "report": r"^report\.html",
}


@dataclass
class Figure:
    """A line of the table. broken: what was promised and is not so."""

    what: str
    done: int = 0
    outcome: str = ""
    broken: list[str] = field(default_factory=list)


@dataclass
class Ground:
    """Where everything happens. store: closed after one round that nothing disturbed; proposed: before that round."""

    folder: Path
    inputs: tuple[str, ...]
    initialised: Path
    store: Path
    random: random.Random

    def copy(self, of: Path, name: str) -> Path:
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(of, target)
        return target


class Clock:
    """seconds: from now on."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def gnome(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run([*GNOME, *map(str, arguments)], capture_output=True, text=True, env=environment)


def begun(*arguments: object, workers: bool = False, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*GNOME, *map(str, arguments), *(("--", *soak.WORKERS) if workers else ())]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=stderr, text=True, start_new_session=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background ignores it
    )  # fmt: skip


def kill(process: subprocess.Popen, sign: int = signal.SIGKILL) -> bool:
    """Whether it was still there."""
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sign)
    process.wait()
    return alive


def rows_of(path: Path | str) -> dict[str, dict[str, str]]:
    """Digests of the rows of every commit. path: a folder, or an address in a bucket."""
    store = Store(str(path), keep=False)
    keys = [(round_, stage) for round_ in store.rounds() for stage in stages_of(round_)]
    return {f"{round_}/{stage}": c.rows_digests for round_, stage in keys if (c := store.commit(round_, stage))}


def compare(figure: Figure, found: Path | str, expected: Path) -> None:
    """Rows equal and the store whole, or the promise is broken."""
    name = str(found).rpartition("/")[2]
    if rows_of(found) != rows_of(expected):
        figure.broken.append(f"{name}: other rows")
    figure.broken += [f"{name}: {path} {what}" for path, what in verify(Store(str(found), keep=False))]


# The parts


def init_killed(ground: Ground, clock: Clock) -> Figure:
    figure, path = Figure("SIGKILL of `init` on two worker processes, then `init` again"), ground.folder / "init"
    shutil.rmtree(path, ignore_errors=True)
    while clock.left > 0 and figure.done < 10:
        process = begun("init", path, *ground.inputs, workers=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ground.random.uniform(1, 20))
        if not kill(process):
            break
        figure.done += 1
    again = gnome("init", path, *ground.inputs)
    if again.returncode and "is a store already" not in again.stderr:
        figure.broken.append(again.stderr[-300:])
    compare(figure, path, ground.initialised)
    figure.outcome = "rows of the 3 stages equal, verify clean"
    return figure


def round_killed(ground: Ground, clock: Clock) -> Figure:
    """At every stage in turn, driver and workers in turn."""
    figure, path = (
        Figure("SIGKILL in a round, driver or worker, at each stage"),
        ground.copy(ground.initialised, "killed"),
    )
    stages, hit = stages_of(1), []
    victims = {stage: ("driver", "worker")[number % 2] for number, stage in enumerate(stages)}
    for stage in stages:
        if clock.left < 0:
            break
        process = begun("round", next_command(path), path, workers=True)
        while process.poll() is None and soak.running_stage(path) != stage:
            time.sleep(0.05)
        workers: list[int] = []
        while victims[stage] == "worker" and not workers and process.poll() is None:
            time.sleep(0.05)
            workers = [pid for pid in soak.descendants(process.pid) if WORKER in command_of(pid)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ground.random.uniform(0.2, 2))
        at = soak.running_stage(path)
        if victims[stage] == "worker" and workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(ground.random.choice(workers), signal.SIGKILL)
            hit.append(f"{at} (worker)")
            figure.done += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(120)
            if kill(process):
                figure.broken.append(f"{at}: the driver stood still after its worker was killed")
        elif kill(process):
            hit.append(f"{at} (driver)")
            figure.done += 1
    return _resumed(figure, ground, path, f"hit: {', '.join(hit)}; rows of all stages equal, verify clean")


def interrupted(ground: Ground, clock: Clock) -> Figure:
    figure, path = Figure("Ctrl-C in a round at random moments"), ground.copy(ground.initialised, "interrupted")
    slowest = 0.0
    while clock.left > 0 and figure.done < 10:
        process = begun("round", next_command(path), path, workers=bool(figure.done % 2))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ground.random.uniform(3, 15))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        slowest = max(slowest, time.monotonic() - start)
        if kill(process):
            figure.broken.append("a command was still there 60 s after Ctrl-C")
        figure.done += 1
    return _resumed(figure, ground, path, f"ended within {slowest:.1f} s, rows of all stages equal, verify clean")


def next_command(path: Path | str) -> str:
    return "resume" if len(Store(str(path), keep=False).rounds()) > 1 else "run"


def _resumed(figure: Figure, ground: Ground, path: Path | str, outcome: str, *options: str) -> Figure:
    done = gnome("round", next_command(path), path, *options)
    if done.returncode:
        figure.broken.append(done.stderr[-300:])
    compare(figure, path, ground.store)
    figure.outcome = outcome
    return figure


def commands_killed(ground: Ground, clock: Clock) -> Figure:
    """What is written outside rounds: kill, run again, compare with what an undisturbed run wrote."""
    figure = Figure("SIGKILL of report, export, analyse, migrate and `gc --delete`, then again")
    path = ground.copy(ground.store, "commands")
    out = ground.folder / "export.csv"
    commands = {
        "report": ("report", path),
        "export": ("export", path, "-o", out),
        "analyse": ("analyse", path, "growth"),
        "migrate": ("migrate", path),
        "gc": ("gc", path, "--delete", "--older-than", "0"),
    }
    landed: dict[str, int] = dict.fromkeys(commands, 0)
    seconds, expected = {}, {}
    for name, command in commands.items():
        start = time.monotonic()
        gnome(*command)
        seconds[name] = time.monotonic() - start
    files = {"report": path / "report.html", "export": out, "analyse": path / "analysis" / "growth.json"}
    gnome(*commands["report"])
    expected = {name: file.read_bytes() for name, file in files.items()}
    for turn in range(8):
        if turn and clock.left < 0:
            break
        for name, command in commands.items():
            if name == "gc":  # something to remove
                lost = path / "rounds/r0001/hull/attempts/20200101T000000.000000-abcdef"
                for number in range(200):
                    (lost / f"part-{number}").mkdir(parents=True, exist_ok=True)
                    (lost / f"part-{number}" / "x").write_bytes(b"x")
            process = begun(*command)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ground.random.uniform(0.5, 1.0) * seconds[name])
            if kill(process):
                figure.done += 1
                landed[name] += 1
            if name in files and files[name].read_bytes() != expected[name]:
                figure.broken.append(f"{name}: a file that is neither the old one nor the new one")
    for name, command in commands.items():
        again = gnome(*command)
        if again.returncode:
            figure.broken.append(f"{name}: {again.stderr[-300:]}")
    compare(figure, path, ground.store)
    figure.outcome = f"{', '.join(f'{name} {n}' for name, n in landed.items())}; old or new file, verify clean"
    return figure


def races(ground: Ground, clock: Clock) -> Figure:
    figure = Figure("two drivers at once: `init` twice, `round run` twice, a round beside readers")
    path = ground.folder / "race"
    shutil.rmtree(path, ignore_errors=True)
    both = [begun("init", path, *ground.inputs) for _ in range(2)]
    for process in both:
        process.wait()
    gnome("init", path, *ground.inputs)
    compare(figure, path, ground.initialised)
    figure.done += 1
    both = [begun("round", "run", path) for _ in range(2)]
    readers = 0
    while any(process.poll() is None for process in both):
        for words in (("round", "status", path), ("verify", path), ("export", path, "-o", ground.folder / "race.csv")):
            found = gnome(*words)
            readers += 1
            if "Traceback" in found.stderr:
                figure.broken.append(f"{words[0]}: {found.stderr[-300:]}")
    gnome("round", "resume", path)
    figure.done += 1
    rows, expected = rows_of(path), rows_of(ground.store)
    if {key: rows[key] for key in expected if key in rows} != expected:
        figure.broken.append("race: other rows")
    figure.outcome = f"rows equal; {readers} calls of readers meanwhile, none with a traceback"
    return figure


def bytes_flipped(ground: Ground, clock: Clock) -> Figure:
    figure, path = (
        Figure("one byte flipped in one file of every kind of a closed store"),
        ground.copy(ground.store, "flips"),
    )
    gnome("analyse", path, "growth")
    store, harmless = Store(str(path), keep=False), 0
    for name, file in kinds(store).items():
        content = flip(path / file)
        named = file in {complaint.path for complaint in verify(store)}
        is_harmless = any(re.search(pattern, name) for pattern in HARMLESS.values())
        if named == is_harmless:
            figure.broken.append(f"{file}: {'named' if named else 'not named'}")
        harmless += is_harmless
        figure.done += 1
        (path / file).write_bytes(content)
    figure.outcome = f"`gnome verify` names {figure.done - harmless}; {harmless} are of kinds that nobody trusts"
    return figure


def programs_flipped(ground: Ground, clock: Clock) -> Figure:
    figure, cache = Figure("one bit flipped in every compiled program, then `predict`"), ground.folder / "programs"
    crystal = ground.folder / "salt.cif"
    crystal.write_text(format_cif(Crystal(4.1 * np.eye(3), [[0] * 3, [0.5] * 3], [55, 17]), "salt"))
    variables = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def predicted() -> bytes:
        out = ground.folder / "predicted.csv"
        out.unlink(missing_ok=True)
        done = gnome("predict", crystal, "--store", ground.store, "-o", out, **variables)
        if done.returncode:
            figure.broken.append(f"exit code {done.returncode}: {done.stderr[-200:]}")
        return out.read_bytes() if out.exists() else b""

    expected, flipped = predicted(), 0
    while clock.left > 0 and figure.done < 8:
        for program in cache.iterdir():
            content = bytearray(program.read_bytes())
            content[ground.random.randrange(len(content))] ^= 1 << ground.random.randrange(8)
            program.write_bytes(content)
            flipped += 1
        if predicted() != expected:
            figure.broken.append("other numbers")
        figure.done += 1
    figure.outcome = f"same numbers, exit code 0 ({flipped} flips)"
    return figure


def on_prism(ground: Ground, clock: Clock) -> Figure:
    figure = Figure("on Prism: SIGKILL, Ctrl-C, a dropped round, a replaced potential")
    if find_engine("prism") is None:
        figure.outcome = "not tried: `gnome runners install prism` gets it"
        return figure
    return _elsewhere(figure, ground, lambda of, name: str(ground.copy(of, f"prism-{name}")), "--runner", "prism")


def in_a_bucket(ground: Ground, clock: Clock) -> Figure:
    """Against the double of the service that the tests use, which fails now and then."""
    figure = Figure("in an emulated bucket that fails now and then: the same")
    with FakeGcs("attack") as fake:
        os.environ["STORAGE_EMULATOR_HOST"] = fake.url

        def upload(of: Path, name: str) -> str:
            store = Store(f"gs://attack/{name}")
            for path in Store(str(of)).storage.files("."):
                store.storage.write(path, (of / path).read_bytes())
            fake.fail("POST", status=503, times=3, done_first=True)
            fake.fail("alt=media", status=502, times=3)
            return store.root

        try:
            return _elsewhere(figure, ground, upload)
        finally:
            del os.environ["STORAGE_EMULATOR_HOST"]


def _elsewhere(figure: Figure, ground: Ground, place: Callable[[Path, str], str], *options: str) -> Figure:
    """place: puts a copy of a store there and gives its address. options: of every command that runs stages."""
    path, hits = place(ground.initialised, "round"), []
    for sign, stage in (
        (signal.SIGKILL, "score"),
        (signal.SIGINT, "evaluate"),
        (signal.SIGKILL, "evaluate"),
        (signal.SIGINT, "train"),
        (signal.SIGKILL, "train"),
    ):
        process = begun("round", next_command(path), path, *options, stderr=subprocess.PIPE)
        while process.poll() is None and (next_command(path) == "run" or soak.running_stage(path) != stage):
            time.sleep(0.2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ground.random.uniform(0.2, 3))
        if process.poll() is not None:
            continue
        hits.append(f"{signal.Signals(sign).name} in {soak.running_stage(path)}")
        figure.done += 1
        if sign == signal.SIGKILL:
            kill(process)
            continue
        os.killpg(process.pid, sign)
        try:
            told = process.communicate(timeout=60)[1].splitlines()
        except subprocess.TimeoutExpired:
            kill(process)
            figure.broken.append("a command was still there 60 s after Ctrl-C")
            continue
        if process.returncode != 130 or [line for line in told if not line.startswith(("r0001/", "gnome: stopped in"))]:
            figure.broken.append(f"Ctrl-C: exit code {process.returncode}, {told[-3:]}")
    _resumed(figure, ground, path, "", *options)
    gnome("round", "propose", path, *options)
    dropped = gnome("round", "drop", path, "--yes")
    figure.done += 1
    if dropped.returncode:
        figure.broken.append(f"drop: {dropped.stderr[-300:]}")
    compare(figure, path, ground.store)
    _replaced_potential(figure, ground, place, *options)
    figure.outcome = f"{', '.join(hits)}; rows equal, verify clean; the other potential was refused, the first went on"
    return figure


def _replaced_potential(figure: Figure, ground: Ground, place: Callable[[Path, str], str], *options: str) -> None:
    """Between propose and learn another one takes its file; the first one then finishes the round."""
    potential = ground.folder / "p.npz"
    record = Path(shipped_path("pretrained")).with_suffix(".json")
    shutil.copy(shipped_path("pretrained"), potential)
    shutil.copy(record, potential.with_suffix(".json"))
    first = ground.folder / "with-potential"
    if not Store(str(first)).is_closed(0):
        gnome("init", first, *ground.inputs, "--evaluator", f"potential:{potential}", "--recompute")
    path = place(first, "potential")
    proposed = gnome("round", "propose", path, *options)
    document = json.loads(record.read_text())
    document["shifts"] = {element: shift + 1 for element, shift in document["shifts"].items()}
    potential.with_suffix(".json").write_text(json.dumps(document))
    refused = gnome("round", "learn", path, *options)
    figure.done += 1
    if proposed.returncode or refused.returncode != 2 or "1/evaluate" in rows_of(path):
        figure.broken.append(f"replaced potential: exit code {refused.returncode}, {refused.stderr[-300:]}")
    shutil.copy(record, potential.with_suffix(".json"))
    learned = gnome("round", "learn", path, *options)
    if learned.returncode:
        figure.broken.append(f"the first potential again: {learned.stderr[-300:]}")


WRONG = (
    ("round", "run", "{store}", "--config", "nowhere.toml"),
    ("round", "run", "{store}", "--config", "{bad}"),
    ("round", "run", "{store}", "--evaluator", "vsap"),
    ("round", "run", "{store}", "--evaluator", "potential:none.npz"),
    ("round", "run", "{store}", "--evaluator", "potential:{text}"),
    ("round", "run", "{store}", "--evaluator", "espresso"),
    ("round", "run", "{store}", "--runner", "nothing"),
    ("round", "run", "{store}", "--rounds", "0"),
    ("round", "propose", "{store}", "--config", "{text}"),
    ("round", "propose", "{store}", "--config", "{elements}"),
    ("round", "propose", "{store}", "--config", "{generator}"),
    ("round", "propose", "{store}", "--config", "{network}"),
    ("round", "propose", "{store}", "--config", "{framework}"),
    ("round", "learn", "{store}"),
    ("round", "drop", "{store}", "--yes"),
    ("init", "{store}", "--snapshot", "embedded"),
    ("init", "{store}/rounds", "--snapshot", "none.parquet"),
    ("init", "{text}/below", "--snapshot", "embedded"),
    ("report", "{store}", "-o", "{store}"),
    ("export", "{store}", "--format", "xlsx"),
    ("analyse", "{store}", "novelty", "--against", "{text}"),
    ("predict", "{text}", "--store", "{store}"),
    ("dft", "run", "{store}"),
    ("migrate", "{text}"),
)
SETTINGS = {
    "bad": "seed = -1\n",
    "text": "no settings, no model, no crystal",
    "elements": '[generation]\nelements = ["Sj"]\n',
    "generator": '[generation]\ngenerators = ["homolog"]\n',
    "network": "[model]\nwidth = 17\n",
    "framework": 'framework = "compositional"\n',
}


def bricked(ground: Ground, clock: Clock) -> Figure:
    """Every wrong command is one line, and leaves the store such that the right one works."""
    figure = Figure("wrong settings, files and names, each followed by the right command")
    path, names = ground.copy(ground.initialised, "bricked"), {}
    for name, text in SETTINGS.items():
        names[name] = ground.folder / f"{name}.toml"
        names[name].write_text(text)
    before, lines = rows_of(path), 0
    for words in WRONG:
        done = gnome(*(word.format(store=path, **names) for word in words))
        figure.done += 1
        told = [line for line in done.stderr.splitlines() if line.startswith("gnome: ")]
        lines += len(told) == 1
        if not done.returncode or "Traceback" in done.stderr:
            figure.broken.append(f"{' '.join(words)}: exit code {done.returncode}, {done.stderr[-200:]}")
        if rows_of(path) != before or Store(str(path)).rounds() != [0]:
            figure.broken.append(f"{' '.join(words)}: changed the store")
    return _resumed(
        figure, ground, path, f"{lines} told in one line, none changed the store, the round then gave equal rows"
    )


# Small things


def kind(path: str) -> str:
    """What is alike in files of all rounds, attempts, members and batches."""
    path = re.sub(r"attempts/[^/]+", "attempts/*", path)
    path = re.sub(r"rounds/r\d{4}", lambda match: match[0] if match[0].endswith("0000") else "rounds/rN", path)
    path = re.sub(r"[0-9a-f]{8,}", "*", path)
    return re.sub(r"\d+", "N", re.sub(r"checkpoints/.*", "checkpoints/", path))


def kinds(store: Store) -> dict[str, str]:
    """Kind -> the newest file of it."""
    return {kind(path): path for path in store.storage.files(".")}


def flip(path: Path) -> bytes:
    """Change the byte in the middle and return what was there."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    return content


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path("/proc", str(pid), "cmdline").read_text()
    return ""


PARTS: dict[Callable[[Ground, Clock], Figure], float] = {  # and their shares of the time
    init_killed: 0.1,
    round_killed: 0.2,
    interrupted: 0.15,
    commands_killed: 0.1,
    races: 0.1,
    bytes_flipped: 0.03,
    programs_flipped: 0.05,
    bricked: 0.09,
    on_prism: 0.09,
    in_a_bucket: 0.09,
}


def attack(folder: Path, minutes: float, seed: int, wanted: Sequence[str]) -> Iterator[Figure]:
    folder.mkdir(parents=True, exist_ok=True)
    inputs = soak.write_inputs(folder)
    initialised, store = folder / "initialised", folder / "store"
    ground = Ground(folder, inputs, initialised, store, random.Random(seed))
    if not Store(str(store)).is_closed(1):  # else of an earlier attack
        gnome("init", initialised, *inputs)
        ground.copy(initialised, "store")
        gnome("round", "run", store)
    if not Store(str(store)).is_closed(1):
        raise SystemExit("the undisturbed round failed")
    for part, share in PARTS.items():
        if not wanted or part.__name__ in wanted:
            yield part(ground, Clock(60 * minutes * share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", action="append", default=[], help=f"only {', '.join(p.__name__ for p in PARTS)}")
    options = parser.parse_args()
    begin, broken = time.monotonic(), 0
    print("| what | done | outcome |\n|---|---|---|", flush=True)
    for figure in attack(options.folder.absolute(), options.minutes, options.seed, options.part):
        told = "; ".join(figure.broken[:3]) or figure.outcome
        print(f"| {figure.what} | {figure.done} | {'BROKEN: ' * bool(figure.broken)}{told} |", flush=True)
        broken += len(figure.broken)
    print(
        f"\n{broken} promises broken; {(time.monotonic() - begin) / 60:.0f} minutes, {os.cpu_count()} cores",
        file=sys.stderr,
    )
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
