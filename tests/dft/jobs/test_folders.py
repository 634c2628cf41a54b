"""Job folders: states, claims, attempts, packing; whatever is killed, nothing is lost and nothing runs twice."""

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dft.jobs.folders import STALE_AFTER, Ending, Job, JobFolder, JobFolders, State, end_attempt
from gnome_core import files
from gnome_core.crystals.crystal import Crystal, crystal_digest

CRYSTAL = Crystal(np.diag([3.0, 3.1, 3.2]), [[0, 0, 0], [0.1, 0.2, 1 / 3]], [12, 8])
JOB = Job("ab" + "0" * 30, CRYSTAL, "espresso", '{"a":1,"b":[2]}')
FILES = {"job.json": JOB.to_json(), "inputs/relax1/pw.in": b"&CONTROL"}


@pytest.fixture
def folders(tmp_path) -> JobFolders:
    folders = JobFolders(tmp_path / "jobs")
    folders.emit({JOB.id: FILES})
    return folders


def fresh(folders: JobFolders) -> JobFolder:
    return folders[JOB.id]


def test_a_job_comes_back_as_it_was_asked(folders):
    job = fresh(folders).job
    assert (job.id, job.evaluator, job.protocol) == (JOB.id, JOB.evaluator, JOB.protocol)
    assert crystal_digest(job.crystal) == crystal_digest(CRYSTAL)


def test_emission_is_idempotent_and_leaves_what_is_there(folders):
    path = fresh(folders).folder / "inputs/relax1/pw.in"
    path.write_text("edited")
    other = "cd" + "0" * 30
    assert folders.emit({JOB.id: FILES, other: FILES}) == 1
    assert path.read_text() == "edited"
    assert folders.ids() == [JOB.id, other]
    assert not [name for name in os.listdir(folders.root / "ab") if name.startswith(".")]


def test_states_follow_the_files(folders):
    assert fresh(folders).state is State.EMITTED
    attempt = fresh(folders).claim()
    assert fresh(folders).state is State.RUNNING
    assert fresh(folders).claim() is None, "it is in hand"
    end_attempt(attempt, Ending(State.FAILED, "not_converged", "why"))
    end_attempt(attempt, Ending(State.CONVERGED))
    assert fresh(folders).state is State.FAILED, "the first word stands"
    assert fresh(folders).claim() is None, "nothing runs again unless asked"
    assert fresh(folders).request() is not None
    assert fresh(folders).state is State.EMITTED
    again = fresh(folders).claim()
    assert again.number == 2
    end_attempt(again, Ending(State.CONVERGED, energy_per_atom=-1.0))
    folder = fresh(folders)
    assert [a.ending.state for a in folder.attempts] == [State.FAILED, State.CONVERGED]
    assert (folder.state, folder.ending.energy_per_atom) == (State.CONVERGED, -1.0)


def test_of_many_that_claim_at_once_one_gets_the_job(folders):
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: fresh(folders).claim(), range(64)))
    assert sum(claim is not None for claim in claims) == 1


def test_a_job_whose_process_died_is_stale_and_can_be_taken_up(folders):
    code = f"from dft.jobs.folders import JobFolders; assert JobFolders({str(folders.root)!r})[{JOB.id!r}].claim()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert fresh(folders).state is State.STALE
    attempt = fresh(folders).claim()
    assert attempt.number == 2
    assert fresh(folders).state is State.RUNNING


def test_on_another_machine_a_job_is_stale_once_it_gives_no_sign_of_life(folders):
    path = fresh(folders).claim().folder / "claim.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere"}))
    assert fresh(folders).state is State.RUNNING
    long_ago = path.stat().st_mtime - STALE_AFTER - 1
    os.utime(path, (long_ago, long_ago))
    assert fresh(folders).state is State.STALE


def test_submitted_jobs_wait_for_what_the_queue_starts(folders):
    fresh(folders).request({"kind": "slurm"})
    assert fresh(folders).state is State.SUBMITTED
    assert fresh(folders).claim() is None
    assert fresh(folders).claim(submitted=True).number == 1


def test_shards_unpack_into_folders_once(tmp_path):
    folders = JobFolders(tmp_path / "jobs")
    jobs = {f"{n:02x}" + "0" * 30: FILES for n in range(5)}
    assert folders.pack("shard", jobs) == 5
    assert folders.pack("shard", jobs) == 0, "a shard is named by its jobs"
    assert folders.ids() == sorted(jobs)
    assert fresh_state(folders) == {State.EMITTED}
    assert folders.unpack() == 5
    assert folders.unpack() == 0
    assert (folders[sorted(jobs)[0]].folder / "inputs/relax1/pw.in").read_bytes() == b"&CONTROL"


def fresh_state(folders: JobFolders) -> set[State]:
    return {folders[id_].state for id_ in folders.ids()}


def test_a_nearly_full_disk_publishes_no_half_job(folders, monkeypatch):
    """One write takes a part of job.json, the next one says that the disk is full."""
    write, other = os.write, "cd" + "0" * 30

    def full(descriptor, data):
        if len(data) < len(FILES["job.json"]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:100])

    before = sorted(folders.root.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            folders.emit({other: {"job.json": FILES["job.json"]}})
    assert sorted(folders.root.rglob("*")) in (before, [*before, folders.root / "cd"])
    assert folders.emit({other: FILES}) == 1
    assert folders[other].job.id == JOB.id


def test_what_is_emitted_is_on_the_disk_before_and_after_it_has_its_name(folders, monkeypatch):
    seen = []
    monkeypatch.setattr("dft.jobs.folders.sync_file_system", lambda folder: seen.append((folder, folders.ids())))
    other = "cd" + "0" * 30
    folders.emit({other: FILES})
    assert seen == [(folders.root, [JOB.id]), (folders.root, [JOB.id, other])]


def test_a_damaged_shard_hides_no_other_job(folders, caplog):
    folders.pack("good", {"ef" + "0" * 30: FILES})
    (folders.root / "shards" / "bad.tar").write_bytes(b"\x00garbage" * 100)
    assert folders.ids() == [JOB.id, "ef" + "0" * 30]
    assert folders.unpack() == 1
    assert "bad.tar is damaged" in caplog.text
