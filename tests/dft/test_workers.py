"""Worker processes: what the machine fails at stops no other job, and too much of it stops the worker."""

import json
import subprocess
import sys

import pytest

from dft.jobs.engine import job_files
from dft.jobs.folders import Job, JobFolders, State
from tests.conftest import ROOT
from tests.dft.toy import START, Toy

# A worker whose engine cannot read the disk for the jobs whose ids are given, and raises a KeyError for "cc".
WORKER = """
import sys
from dft import workers
from dft.jobs.folders import JobFolder
from tests.dft.toy import Toy

class Engine(Toy):
    def run(self, step, crystal, previous, folder, left=()):
        job = folder.parents[2].name
        if job[:2] in sys.argv[1].split(","):
            raise PermissionError(13, "the disk went away")
        if job.startswith("cc"):
            raise KeyError("TOTEN")
        super().run(step, crystal, previous, folder)

workers.make_engine = lambda *_: Engine()
workers.main()
"""


@pytest.mark.parametrize(
    ("lost", "ended"), [("bb", ["aa", "cc", "dd", "ee"]), ("aa,bb,cc", []), ("aa,bb,dd", ["cc", "ee"])]
)
def test_what_the_machine_fails_at_stops_no_other_job(lost, ended, tmp_path):
    folders = JobFolders(tmp_path)
    ids = [name + "0" * 30 for name in ("aa", "bb", "cc", "dd", "ee")]
    folders.emit({id_: job_files(Job(id_, START, "toy", "{}"), Toy()) for id_ in ids})
    task = {"root": str(tmp_path), "evaluator": "espresso", "dft": {}, "ids": ids, "submitted": False}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, lost], input=json.dumps(task), capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1, done.stderr
    assert "the disk went away" in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["job"][:2] for event in events if "state" in event] == ended
    states = {id_[:2]: folders[id_].state for id_ in ids}
    assert {name for name, state in states.items() if state is State.STALE} == set(lost.split(","))
    if "cc" in ended:
        assert folders[ids[2]].ending.reason == "unexpected_error"
    if not ended:
        assert states["dd"] is State.EMITTED, "three in a row: it is not the jobs"
