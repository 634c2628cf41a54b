"""Ctrl-C in the stages of a real round, by real processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.rounds.plan import stages_of
from pipelines.rounds.verify import verify
from pipelines.store.store import Store
from tests.pipelines.conftest import digests, gnome_process

MULTI = ("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2")


def interrupted(store: Path, command: str, stage: str, after: float, *options: str) -> subprocess.CompletedProcess[str]:
    """A command that Ctrl-C ends `after` seconds into a stage of round 1, once that was begun."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("gnome")), "round", command, str(store), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # the terminal sends the signal to the whole group
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    attempts = store / f"rounds/r0001/{stage}/attempts"
    before = set(attempts.iterdir()) if attempts.exists() else set()
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        if attempts.exists() and set(attempts.iterdir()) - before:
            break
        time.sleep(0.02)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize(
    ("begun", "options", "stages"),
    [
        ("initialised", (), {"score": 1.0, "train": 0.5}),
        ("proposed", MULTI, {"evaluate": 5.0}),
    ],
    ids=["local", "multi"],
)
def test_an_interrupt_is_one_line_and_the_round_goes_on_to_the_same_rows(
    begun, options, stages, request, two_rounds, tmp_path
):
    path = tmp_path / "store"
    shutil.copytree(request.getfixturevalue(begun), path)
    for stage, after in stages.items():
        ended = interrupted(path, "resume" if len(Store(str(path)).rounds()) > 1 else "run", stage, after, *options)
        assert ended.returncode == 130, ended.stderr
        kept, (last,) = ended.stdout.splitlines(), ended.stderr.splitlines()
        found = re.fullmatch(rf"gnome: stopped in r0001/(\w+); `gnome round resume {path}` goes on", last)
        assert found, ended.stderr
        # A stage may have ended just before the signal came.
        assert found[1] in stages_of(1)[stages_of(1).index(stage) :]
        assert [line.split()[0] for line in kept if " in " in line] == [
            f"r0001/{s}" for s in stages_of(1)[: stages_of(1).index(found[1])]
        ], ended.stdout
        assert list(verify(Store(str(path)))) == []
    resumed = gnome_process("round", "resume", str(path))  # in one process, whatever ran before
    assert resumed.returncode == 0, resumed.stderr
    ran = [line.split()[0] for line in resumed.stdout.splitlines() if " in " in line]
    assert ran == [f"r0001/{s}" for s in stages_of(1)]
    assert resumed.stderr == f"next: gnome top {path}\n"
    expected = {key: value for key, value in digests(Store(str(two_rounds))).items() if key[0] in "01"}
    assert digests(Store(str(path))) == expected


def test_a_thread_whose_files_go_says_nothing(tmp_path):
    """The display of progress reads files that an interrupt removes."""
    program = f"""
import os, shutil, signal, threading
from pathlib import Path
from pipelines.beam.progress import PROGRESS_FILE
from pipelines.cli.interrupts import stopped_with

path = Path({str(tmp_path)!r}, "scratch", "progress")
path.parent.mkdir()
path.touch()
os.environ[PROGRESS_FILE] = str(path)
rmtree = shutil.rmtree

def display():
    while True:
        path.read_text()

def removed_and_waited(*arguments, **options):
    rmtree(*arguments, **options)
    thread.join()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background ignores it
with stopped_with(lambda: "stopped"):
    thread = threading.Thread(target=display, daemon=True)
    thread.start()
    shutil.rmtree = removed_and_waited
    signal.raise_signal(signal.SIGINT)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "gnome: stopped\n")
