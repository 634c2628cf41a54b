"""A tiny real flywheel: a few dozen crystals of the embedded snapshot and settings that make a round take seconds."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryFile
from typing import NoReturn
from unittest.mock import patch

import pytest

from pipelines.beam import apart
from pipelines.beam.environment import TUNABLES
from pipelines.cli.app import main
from pipelines.rounds import driver
from pipelines.rounds.plan import PROPOSE, stages_of
from pipelines.store import bucket as buckets
from pipelines.store.store import Store
from tests.pipelines.store.gcs import FakeGcs
from tools.soak import write_inputs


def gnome(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which has imported and compiled what a new one would begin with."""

    def leave(code: int | str | None) -> NoReturn:
        raise SystemExit(code)

    with (
        TemporaryFile("w+", encoding="utf-8") as out,
        TemporaryFile("w+", encoding="utf-8") as err,
        patch.dict(os.environ, {TUNABLES: ""}),  # without, a command that computes begins anew
        patch.object(sys, "argv", ["gnome", *arguments]),
        patch.object(apart, "leave", leave),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        os.environ.pop("COLUMNS", None)  # wherever the tests are run
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        said = [stream.seek(0) or stream.read() for stream in (out, err)]
    return subprocess.CompletedProcess(["gnome", *arguments], code or 0, *said)


def gnome_process(*arguments: str, crash_at: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as users do, or until it is killed at `crash_at`; `variables` of the environment win."""
    own = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment = {**own, "GNOME_CRASH_AT": crash_at, "OMP_NUM_THREADS": "1", **variables}
    command = [str(Path(sys.executable).with_name("gnome")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)


def digests(store: Store) -> dict[str, dict[str, str]]:
    """rows_digests of every committed stage."""
    return {
        f"{round_}/{stage}": commit.rows_digests
        for round_ in store.rounds()
        for stage in store.storage.children(f"rounds/r{round_:04d}")
        if "." not in stage and (commit := store.commit(round_, stage))
    }


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, stage: str, point: str) -> Generator[None]:
    """What runs in it must reach the crash point, and goes no further."""

    class Killed(BaseException):
        """Stands for SIGKILL in this process: nothing after the crash point runs."""

    def crash(*where: str) -> None:
        if where == (stage, point):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_crash_point", crash)
        with pytest.raises(Killed):
            yield


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the whole run, which the first of its processes to come here makes and the others wait for."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = root / name, root / f"{name}.made"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            make(folder)
            done.touch()
    return folder


@pytest.fixture
def gcs(monkeypatch, tmp_path) -> Generator[FakeGcs]:
    """A bucket "lab" in this process, whose listings have pages of three."""
    pytest.importorskip("google.cloud.storage", reason="pip install -e '.[gcs]'")
    with FakeGcs("lab", page=3) as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        buckets._client.cache_clear()
        yield fake
    buckets._client.cache_clear()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with snapshot.parquet and round.toml."""

    def make(folder: Path) -> None:
        folder.mkdir()
        write_inputs(folder)

    return made_once(tmp_path_factory, "tiny", make)


@pytest.fixture(scope="session")
def initialised(tmp_path_factory, tiny) -> Path:
    """A store after `gnome init`; copy it before changing it."""

    def make(store: Path) -> None:
        result = gnome_process(
            "init", str(store), "--snapshot", str(tiny / "snapshot.parquet"), "--config", str(tiny / "round.toml")
        )
        assert result.returncode == 0, result.stderr

    return made_once(tmp_path_factory, "initialised", make)


@pytest.fixture(scope="session")
def scored(tmp_path_factory, initialised) -> Path:
    """A store whose round 1 has scored its candidates; copy it before changing it."""

    def make(path: Path) -> None:
        shutil.copytree(initialised, path)
        store = Store(str(path))
        for _ in driver.run_stages(store, driver.start_round(store, None), ["generate", "score"]):
            pass

    return made_once(tmp_path_factory, "scored", make)


@pytest.fixture(scope="session")
def proposed(tmp_path_factory, scored) -> Path:
    """A store whose round 1 has proposed; copy it before changing it."""

    def make(path: Path) -> None:
        shutil.copytree(scored, path)
        for _ in driver.run_stages(Store(str(path)), 1, PROPOSE):
            pass

    return made_once(tmp_path_factory, "proposed", make)


@pytest.fixture(scope="session")
def two_rounds(tmp_path_factory, initialised) -> Path:
    """A store after two undisturbed rounds, run in this process."""

    def make(path: Path) -> None:
        shutil.copytree(initialised, path)
        store = Store(str(path))
        for _ in range(2):
            round_ = driver.start_round(store, None)
            for _ in driver.run_stages(store, round_, stages_of(round_)):
                pass

    return made_once(tmp_path_factory, "two_rounds", make)
