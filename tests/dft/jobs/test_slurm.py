"""Queues: an array of Slurm tasks that share the jobs, and flows on their way to jobflow-remote."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dft.config import DftConfig, EspressoConfig
from dft.engines import make_engine
from dft.jobs.engine import job_files
from dft.jobs.folders import Job, JobFolders, State
from dft.jobs.slurm import SubmitError, submit_slurm
from dft.tables import job_digest, protocol_json
from dft.vasp.jobflow import submit_flows
from gnome_core.crystals.crystal import Crystal
from tests.dft.fake_pw import write_program

FCC = np.ones((3, 3)) - np.eye(3)


@pytest.fixture
def emitted(tmp_path) -> tuple[JobFolders, Path]:
    """Six jobs of MgO in a folder without a store, and a round.toml for them."""
    program = write_program(tmp_path / "bin", seconds=0.3)
    dft = DftConfig(espresso=EspressoConfig(command=str(program), pseudopotentials=str(program.parent)))
    engine, folders = make_engine("espresso", dft), JobFolders(tmp_path / "jobs")
    protocol = protocol_json(engine.protocol)
    crystals = [Crystal(FCC * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8]) for a in np.linspace(2.1, 2.2, 6)]
    jobs = [Job(job_digest(crystal, protocol), crystal, "espresso", protocol) for crystal in crystals]
    folders.emit({job.id: job_files(job, engine) for job in jobs})
    toml = tmp_path / "round.toml"
    toml.write_text(
        f'[dft.espresso]\ncommand = "{program}"\npseudopotentials = "{program.parent}"\n',
    )
    return folders, toml


def test_tasks_of_a_slurm_array_share_the_jobs(emitted, tmp_path, monkeypatch):
    folders, toml = emitted
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho Submitted batch job 7\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    arguments = ["dft", "run", str(folders.root), "--submitted", "--config", str(toml)]
    said = submit_slurm(folders, folders.ids(), arguments, tasks=3, header="#SBATCH --time=1:00:00")
    assert said.startswith("Submitted batch job 7: 3 tasks for 6 jobs")
    assert {folders[id_].state for id_ in folders.ids()} == {State.SUBMITTED}
    (script,) = folders.root.glob("slurm/*/array.sh")
    assert "#SBATCH --array=1-3" in script.read_text()
    assert "#SBATCH --time=1:00:00" in script.read_text()

    tasks = [subprocess.Popen(["bash", str(script)], stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [task.wait(timeout=120) for task in tasks] == [0, 0, 0]
    attempts = [folders[id_].attempts for id_ in folders.ids()]
    assert all(len(own) == 1 and own[0].state is State.CONVERGED for own in attempts)
    assert len({own[0].claim["pid"] for own in attempts}) > 1, "more than one task worked"


def test_a_queue_that_refuses_leaves_the_jobs_waiting(emitted, tmp_path, monkeypatch):
    folders, _ = emitted
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho invalid partition >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    with pytest.raises(SubmitError, match="invalid partition"):
        submit_slurm(folders, folders.ids(), ["dft", "run", "x"], tasks=1)
    assert {folders[id_].state for id_ in folders.ids()} == {State.EMITTED}
    sbatch.unlink()
    monkeypatch.setenv("PATH", str(sbatch.parent))
    with pytest.raises(SubmitError, match="sbatch is not on PATH"):
        submit_slurm(folders, folders.ids(), ["dft", "run", "x"], tasks=1)


def test_there_are_no_flows_for_espresso(emitted):
    folders, _ = emitted
    with pytest.raises(SubmitError, match="no flows for espresso"):
        submit_flows(folders, folders.ids(), "espresso", DftConfig(), None, None)


def test_a_path_with_a_line_break_is_refused(tmp_path):
    """It would end a comment of the script, and what follows it would be run."""
    folders = JobFolders(tmp_path / "a\ntouch owned\n")
    with pytest.raises(SubmitError, match=r"cannot stand in a script"):
        submit_slurm(folders, ["x"], ["dft", "run", "x"], tasks=1, dry_run=True)
    assert list(tmp_path.iterdir()) == []
