"""A tiny real flywheel: a few dozen crystals of the embedded snapshot and settings that make a round take seconds."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.rounds import driver
from pipelines.rounds.plan import stages_of
from pipelines.store.store import Store
from tools.soak import write_inputs


def gnome(*arguments: str, crash_at: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as users do, or until it is killed at `crash_at`; `variables` of the environment win."""
    environment = {**os.environ, "GNOME_CRASH_AT": crash_at, "OMP_NUM_THREADS": "1", **variables}
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with snapshot.parquet and round.toml."""
    folder = tmp_path_factory.mktemp("tiny")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def initialised(tiny) -> Path:
    """A store after `gnome init`; copy it before changing it."""
    store = tiny / "initialised"
    result = gnome(
        "init", str(store), "--snapshot", str(tiny / "snapshot.parquet"), "--config", str(tiny / "round.toml")
    )
    assert result.returncode == 0, result.stderr
    return store


@pytest.fixture(scope="session")
def two_rounds(tiny, initialised) -> Path:
    """A store after two undisturbed rounds, run in this process."""
    path = tiny / "two_rounds"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    for _ in range(2):
        round_ = driver.start_round(store, None)
        for _ in driver.run_stages(store, round_, stages_of(round_)):
            pass
    return path
