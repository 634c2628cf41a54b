"""`gnome dft` on a store in a bucket, with a program that only plays back."""

import json

import numpy as np
import pytest

from dft.config import DftConfig, EspressoConfig
from dft.engines import make_engine
from dft.jobs.engine import job_files
from dft.jobs.folders import Job, JobFolders, State
from dft.tables import job_digest, protocol_json
from gnome_core.crystals.crystal import Crystal
from pipelines.evaluation.taken_jobs import TakenFolder
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.rounds.config import load_config
from pipelines.store.store import Store
from tests.dft.fake_pw import write_program
from tests.pipelines.cli.json_page import check
from tests.pipelines.conftest import gnome

FCC = np.ones((3, 3)) - np.eye(3)
STORE = "gs://lab/store"


@pytest.fixture
def emitted(gcs, tmp_path, monkeypatch) -> list[str]:
    """Ids of three jobs of MgO in a store whose settings name a program for them."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    program = write_program(tmp_path / "bin", seconds=0.1)
    config = EspressoConfig(command=str(program), pseudopotentials=str(program.parent))
    engine, store = make_engine("espresso", DftConfig(espresso=config)), Store(STORE)
    toml = tmp_path / "round.toml"
    toml.write_text(f'[dft.espresso]\ncommand = "{program}"\npseudopotentials = "{program.parent}"\n')
    store.start_round(0, load_config(str(toml)).document())
    protocol = protocol_json(engine.protocol)
    crystals = [Crystal(FCC * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8]) for a in (2.1, 2.15, 2.2)]
    jobs = [Job(job_digest(crystal, protocol), crystal, "espresso", protocol) for crystal in crystals]
    BucketJobs(store, "espresso").emit({job.id: job_files(job, engine) for job in jobs})
    return sorted(job.id for job in jobs)


def done(*arguments: str) -> str:
    result = gnome("dft", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def states() -> dict[str, int]:
    document = json.loads(gnome("dft", "status", STORE, "--json").stdout)
    check("dft status STORE", document)
    (engine,) = document["engines"]
    assert engine["folder"] == f"{STORE}/jobs/espresso"
    return {row["state"]: row["jobs"] for row in engine["states"]}


def test_jobs_go_to_a_folder_and_their_results_come_back(emitted, tmp_path):
    folder = str(tmp_path / "cluster")
    assert states() == {"emitted": 3}
    assert "2 elements in 3 jobs, 0 problems" in done("preflight", STORE)
    taken = done("take", STORE, folder, "--jobs", "2")
    assert "2 espresso jobs taken" in taken
    assert "1 of 3 wait for others" in taken
    assert f"gnome dft deliver {folder}" in taken
    assert states() == {"taken": 2, "emitted": 1}
    assert f"by {TakenFolder.open(tmp_path / 'cluster').holder.name}".split(":")[0] in done("status", STORE)
    assert "0 results delivered" in done("deliver", folder)
    ran = done("run", folder)  # with the settings of the store
    assert "2 converged" in ran
    assert f"gnome dft deliver {folder}" in ran
    assert states() == {"taken": 2, "emitted": 1}
    delivered = done("deliver", folder)
    assert f"2 results delivered to {STORE}; 0 jobs have not ended here" in delivered
    assert f"gnome round resume {STORE}" in delivered
    assert states() == {"converged": 2, "emitted": 1}
    (first, *_) = JobFolders(tmp_path / "cluster").ids()
    info = done("info", STORE, first[:10])
    assert "attempt 1: converged" in info
    assert f"converged by {TakenFolder.open(tmp_path / 'cluster').holder.name}" in info
    assert done("report", STORE, "-o", str(tmp_path / "jobs.csv")).startswith("3 jobs")
    assert (tmp_path / "jobs.csv").read_text().count("converged") == 2

    assert "1 of 1 jobs will be tried again" in done("retry", STORE, first)
    assert states() == {"converged": 1, "emitted": 2}
    assert "2 espresso jobs taken" in done("take", STORE, folder)
    assert JobFolders(tmp_path / "cluster")[first].state is State.EMITTED


def test_jobs_are_run_where_the_command_is(emitted, tmp_path):
    assert "3 converged" in done("run", STORE, "--workers", "2")
    assert states() == {"converged": 3}
    assert not list((tmp_path / "data").rglob("job.json"))
    assert "3 converged" in done("run", STORE), "nothing is left to do"


def test_jobs_of_a_machine_that_is_gone_are_for_others_again(emitted, tmp_path):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    done("take", STORE, a)
    host = TakenFolder.open(tmp_path / "a").holder.host
    assert "0 espresso jobs taken" in done("take", STORE, b)
    assert "1 converged" in done("run", a, emitted[0])
    assert "0 jobs wait" in done("release", STORE, "--from", "elsewhere")
    assert "1 jobs wait" in done("release", STORE, emitted[0][:12])
    assert "2 jobs wait" in done("release", STORE, "--from", host)
    assert "3 espresso jobs taken" in done("take", STORE, b)
    told = done("run", a)
    assert told.count(f"was opened for others and is taken by {host}:{b}") == 2
    assert "2 emitted, 1 converged" in told
    told = done("deliver", a)
    assert "0 results delivered" in told
    assert told.count("stays here: taken by") == 1
    assert "3 jobs given back" in done("release", b)
    assert "1 results delivered" in done("deliver", a)
    assert "is emitted" in done("run", a), "open for whoever comes first, and not taken again yet"
    assert "2 espresso jobs taken" in done("take", STORE, b)
    assert "2 converged" in done("run", b)


def test_a_folder_goes_on_where_the_bucket_is_out_of_reach(emitted, tmp_path, monkeypatch):
    """As on the nodes of a cluster: what was taken is taken for its own, and that is said."""
    done("take", STORE, str(tmp_path / "a"))
    monkeypatch.setattr(TakenFolder, "jobs", property(lambda self: (_ for _ in ()).throw(OSError("no route to host"))))
    told = done("run", str(tmp_path / "a"))
    assert "does not say whose the jobs are by now (no route to host)" in told
    assert "3 converged" in told


def test_mistakes_are_one_line(emitted, tmp_path):
    done("take", STORE, str(tmp_path / "a"))
    for arguments, said in (
        (("take", str(tmp_path), str(tmp_path / "b")), "runs its jobs where they are"),
        (("take", STORE, str(tmp_path / "b"), "--engine", "vasp"), "none of vasp"),
        (("take", "gs://lab/other", str(tmp_path / "b")), "no first-principles jobs"),
        (("take", "gs://lab/other", str(tmp_path / "a")), "no first-principles jobs"),
        (("deliver", str(tmp_path / "b")), "no jobs were taken into"),
        (("release", str(tmp_path / "b")), "no jobs were taken into"),
        (("release", STORE), "name jobs, or a machine"),
        (("release", str(tmp_path / "a"), "--from", "x"), "gives back its own"),
        (("submit", STORE), f"gnome dft take {STORE} FOLDER"),
        (("fetch", STORE), f"gnome dft take {STORE} FOLDER"),
    ):
        result = gnome("dft", *arguments)
        assert result.returncode == 2, arguments
        assert said in result.stderr, result.stderr
        assert result.stderr.count("\n") == 1
    (tmp_path / "a" / "taken.json").write_text("{")
    result = gnome("dft", "deliver", str(tmp_path / "a"))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "taken.json is damaged" in result.stderr
