"""`gnome dft` on a folder of unpacked jobs, as on a cluster without the store, with a program that only plays back."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dft.config import DftConfig, EspressoConfig
from dft.engines import make_engine
from dft.jobs.engine import job_files
from dft.jobs.folders import Job, JobFolders, State
from dft.tables import job_digest, protocol_json
from gnome_core.crystals.crystal import Crystal
from tests.dft.fake_pw import write_program
from tests.pipelines.cli.json_page import check
from tests.pipelines.conftest import gnome

GNOME = str(Path(sys.executable).with_name("gnome"))
FCC = np.ones((3, 3)) - np.eye(3)


def dft(*arguments: str) -> subprocess.CompletedProcess[str]:
    return gnome("dft", *arguments)


@pytest.fixture
def emitted(tmp_path) -> tuple[JobFolders, list[str]]:
    """Three jobs of MgO, and the arguments that name a program for them."""
    program = write_program(tmp_path / "bin", seconds=0.5)
    config = EspressoConfig(command=str(program), pseudopotentials=str(program.parent))
    engine, folders = make_engine("espresso", DftConfig(espresso=config)), JobFolders(tmp_path / "jobs")
    protocol = protocol_json(engine.protocol)
    crystals = [Crystal(FCC * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8]) for a in (2.1, 2.15, 2.2)]
    jobs = [Job(job_digest(crystal, protocol), crystal, "espresso", protocol) for crystal in crystals]
    folders.emit({job.id: job_files(job, engine) for job in jobs})
    toml = tmp_path / "round.toml"
    toml.write_text(f'[dft.espresso]\ncommand = "{program}"\npseudopotentials = "{program.parent}"\n')
    return folders, [str(folders.root), "--config", str(toml)]


def states(folders: JobFolders) -> list[State]:
    return [folders[id_].state for id_ in folders.ids()]


def test_an_interrupted_run_ends_its_programs_and_the_next_one_finishes(emitted):
    folders, arguments = emitted
    runner = subprocess.Popen(
        [GNOME, "dft", "run", *arguments, "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background ignores it
    )
    deadline = time.monotonic() + 60
    while State.RUNNING not in states(folders) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=30)
    assert State.RUNNING not in states(folders)
    assert State.STALE in states(folders)
    left = subprocess.run(["pgrep", "-f", str(folders.root.parent / "bin" / "pw.x")], capture_output=True)
    assert left.stdout == b"", "no program is left behind"
    done = dft("run", *arguments)
    assert done.returncode == 0, done.stderr
    assert states(folders) == [State.CONVERGED] * 3
    assert "3 converged" in done.stderr
    again = dft("run", *arguments)
    assert again.returncode == 0
    assert {len(folders[id_].attempts) for id_ in folders.ids()} <= {1, 2}


def test_named_jobs_only(emitted, tmp_path):
    folders, arguments = emitted
    first, second, third = folders.ids()
    assert dft("run", arguments[0], first[:12], *arguments[1:]).returncode == 0
    assert states(folders) == [State.CONVERGED, State.EMITTED, State.EMITTED]
    (tmp_path / "some.txt").write_text(f"{third}\n")
    assert dft("run", *arguments, "--jobs-file", str(tmp_path / "some.txt")).returncode == 0
    assert states(folders) == [State.CONVERGED, State.EMITTED, State.CONVERGED]
    dry = dft("submit", *arguments, "--dry-run", "--tasks", "5")
    assert "an array of 1 tasks for 1 jobs" in dry.stdout
    assert second in next(folders.root.glob("slurm/*/jobs.txt")).read_text()


@pytest.mark.parametrize(
    ("change", "command", "message"),
    [
        ("program", ("run",), "pw.x is not on PATH; install it"),
        ("potential", ("preflight",), "lacks the pseudopotential of O; run `gnome dft setup-espresso`"),
        ("", ("run", "nothing"), "starts with 'nothing'"),
    ],
)
def test_mistakes_are_one_line(emitted, change, command, message):
    folders, arguments = emitted
    binaries = folders.root.parent / "bin"
    if change == "program":
        (binaries / "pw.x").unlink()
    if change == "potential":
        (binaries / "O.upf").unlink()
    name, *rest = command
    result = dft(name, arguments[0], *rest, *arguments[1:])
    said = result.stdout + result.stderr
    assert len([line for line in said.splitlines() if message in line]) == 1, said
    assert "Traceback" not in said
    assert states(folders) == [State.EMITTED] * 3


def test_a_job_without_its_potential_fails_and_the_others_run(emitted):
    folders, arguments = emitted
    first = folders.ids()[0]
    path = folders[first].folder / "job.json"
    path.write_text(path.read_text().replace('"numbers": [12, 8]', '"numbers": [12, 16]'))
    result = dft("run", *arguments)
    assert result.returncode == 0
    assert folders[first].ending.reason == "missing_potential"
    assert "lacks the pseudopotential of S" in result.stderr
    assert states(folders).count(State.CONVERGED) == 2


@pytest.mark.parametrize("name", ["pbe", "aimd", "espresso"])
def test_protocols_are_printed_with_their_pins(name):
    result = dft("protocol", name)
    assert result.returncode == 0
    assert f"{name}: inputs " in result.stdout
    assert "as pinned" in result.stdout
    assert "NOT as pinned" not in result.stdout
    assert {"espresso": "ecutwfc", "aimd": "POTIM = 2.0"}.get(name, "ENCUT = ") in result.stdout


def test_unknown_protocols_and_folders_without_jobs(tmp_path):
    assert "there is: pbe, bands, r2scan, aimd, espresso" in dft("protocol", "scan").stderr
    empty = dft("status", str(tmp_path))
    assert empty.returncode == 2
    assert "has no first-principles jobs" in empty.stderr


def test_status_as_json_counts_by_state_and_reason(emitted):
    folders, _ = emitted
    first, second, _ = folders.ids()
    attempt = folders[first].claim()
    assert attempt is not None
    folders[second].request()
    result = dft("status", str(folders.root), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    check("dft status STORE", document)
    (engine,) = document["engines"]
    assert (engine["engine"], engine["folder"], engine["jobs"]) == ("espresso", str(folders.root), 3)
    assert {row["state"]: row["jobs"] for row in engine["states"]} == dict(Counter(states(folders)))
    assert {row["reason"] for row in engine["states"]} == {None}


def test_unreadable_documents_are_one_broken_job_each(emitted):
    """As a power cut leaves what was never synced: empty files. All commands go on with the other jobs."""
    folders, arguments = emitted
    first, second, third = folders.ids()
    assert dft("run", arguments[0], first, *arguments[1:]).returncode == 0
    end = folders[first].folder / "attempts/01/end.json"
    end.write_bytes(b"")
    folders[second].claim()
    (folders[second].folder / "attempts/01/claim.json").write_bytes(b"")
    (folders[third].folder / "job.json").write_bytes(b"")
    for name in ("status", "preflight", "report", "run", "report", "submit"):
        options = ["--dry-run"] if name == "submit" else []
        rest = arguments[1:] if name in ("preflight", "run", "submit") else []
        result = dft(name, arguments[0], *options, *rest)
        assert "Traceback" not in result.stdout + result.stderr, result.stderr
        assert result.returncode == 0, result.stderr
    table = folders.root.parent / "jobs.csv"
    assert dft("report", arguments[0], "-o", str(table)).returncode == 0
    assert states(folders) == [State.FAILED, State.CONVERGED, State.FAILED]
    broken = {first: ("damaged_record", str(end)), third: ("damaged_job", f"{folders[third].folder}/job.json")}
    lines = {line.split(",")[1]: line for line in table.read_text().splitlines()}
    for id_, (reason, path) in broken.items():
        assert reason in lines[id_]
        assert path in lines[id_]
