"""What a file or a pipe is given while a command runs, by real processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.pipelines.conftest import gnome


def test_lines_come_as_stages_end(tiny, tmp_path):
    """`gnome init STORE > log` and `| reader`: not all at once in the end."""
    command = [
        str(Path(sys.executable).with_name("gnome")), "init", str(tmp_path / "store"),
        "--snapshot", str(tiny / "snapshot.parquet"), "--config", str(tiny / "round.toml"),
    ]  # fmt: skip
    read, write = os.pipe()
    process = subprocess.Popen(
        command, stdout=write, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    os.close(write)
    try:
        with os.fdopen(read) as lines:
            first = next(line for line in lines if line.startswith("r0000/snapshot ") and " in " in line)
            assert first
            assert process.poll() is None, "the pipe has its line before the command has ended"
            assert not (tmp_path / "store/rounds/r0000/train/COMMIT.json").exists()
    finally:
        process.kill()
        process.wait()


def test_next_is_said_beside_the_output(scored, tmp_path):
    """On stderr, as a command to be copied; a document for scripts has none."""
    store = tmp_path / "my store"
    shutil.copytree(scored, store)
    dropped = gnome("round", "drop", str(store), "--yes")
    assert dropped.stdout.splitlines()[-1] == "round 1 is dropped"
    assert dropped.stderr == f"next: gnome round run '{store}'\n"
    assert gnome("round", "status", str(store), "--json").stderr == ""
