"""A tiny real flywheel: a few dozen crystals of the embedded snapshot and settings that make a round take seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.readers import embedded_entries
from pipelines.store import Store

ELEMENTS = {"Li", "Mg", "Cu", "Al"}
ROUND_TOML = """
seed = 3
[generation]
max_recipes_per_parent = 8
max_sites = 4
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with snapshot.parquet and round.toml."""
    folder = tmp_path_factory.mktemp("tiny")
    entries = embedded_entries()
    small = pc.less_equal(pc.list_value_length(entries["numbers"]), 4)
    inside = pa.array([set(system.split("-")) <= ELEMENTS for system in entries["chemsys"].to_pylist()])
    pq.write_table(entries.filter(pc.and_(small, inside)), folder / "snapshot.parquet")
    (folder / "round.toml").write_text(ROUND_TOML)
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
    import shutil

    from pipelines import round as driver

    path = tiny / "two_rounds"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    for _ in range(2):
        round_ = driver.start_round(store, None)
        for _ in driver.run_stages(store, round_, driver.stages_of(round_)):
            pass
    return path
