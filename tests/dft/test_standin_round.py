"""A round whose jobs the stand-in runs, one of them with each fault, by the commands of a user; killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dft.config import DftConfig
from dft.engines import make_engine
from dft.jobs.engine import read_job
from dft.jobs.folders import ENDED, JobFolders, State
from dft.tables import DONE, FRAME_SCHEMA, RESULT_SCHEMA, result_batch
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import embedded_entries
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.reading.committed import proposals
from pipelines.report.collect import collect
from pipelines.rounds.config import load_round_config
from pipelines.rounds.verify import verify
from pipelines.store import bucket as buckets
from pipelines.store.store import Store
from tests.dft.toy import START
from tests.pipelines.conftest import gnome, gnome_process
from tests.pipelines.store.gcs import FakeGcs

ROUND_TOML = """
seed = 3
[generation]
max_recipes_per_parent = 30
max_sites = 4
known = "snapshot"
[model]
width = 8
steps = 1
[scoring]
members = 2
[selection]
budget = 6
random_baseline = 4
threshold = 1.0
per_formula = 4
clustered_per_formula = 4
per_chemsys = 20
parents_within = 0.3
[evaluation]
evaluator = "vasp"
[training]
first = "scratch"
epochs = 2
fine_tune_epochs = 1
[dft]
workers = 2
[dft.vasp]
command = "{vasp}"
gamma_command = "{vasp}"
polling = 0.05
"""
FATAL = {"crash:99": "crashed", "disk_full:99": "no_space", "truncated_xml:99": "crashed"}
# What custodian does about each, in the words of a result.
MENDED = {
    "brmix:1": "brmix: INCAR set ISTART = 1",
    "edddav:1": "edddav: ",
    "zbrent:1": "zbrent: ",
    "nonconv:1": "ALGO = Normal",
    "unconverged_ionic:1": "CONTCAR",
}


@pytest.fixture(scope="module")
def proposed(standin, tmp_path_factory) -> Path:
    """A store with references computed by the stand-in and a round of jobs emitted; faults.json beside it."""
    folder = tmp_path_factory.mktemp("round")
    entries = embedded_entries({"Li", "Mg", "Cu"})
    small = pc.less_equal(pc.list_value_length(entries["numbers"]), 4)
    entries = entries.filter(small).sort_by("energy_per_atom")
    lowest = dict(zip(reversed(entries["formula"].to_pylist()), reversed(range(len(entries))), strict=True))
    pq.write_table(entries.take(sorted(lowest.values())), folder / "snapshot.parquet")
    (folder / "round.toml").write_text(ROUND_TOML.format(vasp=standin.executable))
    source, config = ("--snapshot", str(folder / "snapshot.parquet")), ("--config", str(folder / "round.toml"))
    for command in (
        ("init", str(folder / "store"), *source, *config, "--recompute"),
        ("round", "propose", str(folder / "store")),
    ):
        done = gnome_process(*command, **standin.environment)
        assert done.returncode == 0, done.stderr
    jobs = proposals(str(folder / "store"), 1)["id"].to_pylist()
    faults = dict(zip(jobs, [*FATAL, *MENDED], strict=False))
    (folder / "faults.json").write_text(json.dumps(faults))
    return folder


def folders_of(store: Path) -> JobFolders:
    return JobFolders(store / "jobs" / "vasp")


def run(store: Path, standin, faults: Path, *jobs: str) -> subprocess.CompletedProcess[str]:
    return gnome_process("dft", "run", str(store), *jobs, STANDIN_FAULTS=str(faults), **standin.environment)


def results_of(store: Path, jobs: list[str], dft: DftConfig) -> dict[str, list]:
    """What every job gave, bit for bit, less the names of its folders."""
    engine = make_engine("vasp", dft)
    calculations = [read_job(folders_of(store)[id_], engine) for id_ in jobs]
    columns = result_batch(jobs, [START] * len(jobs), [c.outcome for c in calculations], engine.scale, calculations)
    return columns.drop_columns(["message", "attempt"]).to_pydict()


@pytest.fixture(scope="module")
def straight(proposed, standin) -> Path:
    """The store after an undisturbed run and `gnome round learn`."""
    store = proposed / "straight"
    shutil.copytree(proposed / "store", store)
    assert run(store, standin, proposed / "faults.json").returncode == 0
    learned = gnome_process("round", "learn", str(store), **standin.environment)
    assert learned.returncode == 0, learned.stderr
    return store


def test_every_job_ends_converged_or_failed_with_its_reason_and_counts_add_up(straight, proposed):
    faults = json.loads((proposed / "faults.json").read_text())
    store, folders = Store(str(straight)), folders_of(straight)
    jobs = proposals(str(straight), 1)["id"].to_pylist()
    assert len(jobs) > len(faults)
    assert set(faults.values()) == {*FATAL, *MENDED}
    for id_ in jobs:
        ending = folders[id_].ending
        assert ending.state in ENDED
        assert (ending.state, ending.reason) == (
            (State.FAILED, FATAL[faults[id_]]) if faults.get(id_) in FATAL else (State.CONVERGED, "")
        )
    results = store.read_table(store.commit(1, "evaluate"), "results", RESULT_SCHEMA)
    rows = {row["id"]: row for row in results.to_pylist()}
    for id_, fault in faults.items():
        assert rows[id_]["status"] == FATAL.get(fault, DONE)
        if fault in MENDED:
            assert any(MENDED[fault] in fix for fix in rows[id_]["fixes"]), rows[id_]["fixes"]
            assert rows[id_]["settings_changed"] is False
        else:
            assert str(folders[id_].folder) in rows[id_]["message"]
    # Custodian mends the smearing of what turns out to be a metal; a job without faults needs nothing else.
    others = [fix for id_ in jobs if id_ not in faults for fix in rows[id_]["fixes"]]
    assert all("IncorrectSmearing" in fix for fix in others), others
    evaluated, ingested = store.commit(1, "evaluate").counts, store.commit(1, "ingest").counts
    assert evaluated.n_in == evaluated.n_out == ingested.n_in == len(jobs)
    failed = sum(fault in FATAL for fault in faults.values())
    assert sum(n for reason, n in ingested.rejected.items() if reason in FATAL.values()) == failed
    assert ingested.n_in == ingested.n_out + ingested.n_rejected
    frames = store.read_table(store.commit(1, "evaluate"), "frames", FRAME_SCHEMA)
    assert len(frames) == sum(row["steps"] for row in rows.values())
    before, after = (store.commit(round_, "hull").counts.n_in for round_ in (0, 1))
    assert after == before + ingested.n_out
    assert len(collect(store).jobs) == len(jobs)


def test_killed_while_running_and_run_again_it_is_the_same(straight, proposed, standin):
    store = proposed / "killed"
    shutil.copytree(proposed / "store", store)
    folders, jobs = folders_of(store), proposals(str(store), 1)["id"].to_pylist()[:6]
    command = [str(Path(sys.executable).with_name("gnome")), "dft", "run", str(store), *jobs]
    environment = {**os.environ, **standin.environment, "STANDIN_FAULTS": str(proposed / "faults.json")}
    runner = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while sum(folders[id_].ending is not None for id_ in jobs) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    while any(folders[id_].state is State.RUNNING for id_ in jobs) and time.monotonic() < deadline:
        time.sleep(0.1)  # the system ends the workers
    states = [folders[id_].state for id_ in jobs]
    assert State.STALE in states
    assert State.EMITTED in states
    ended = {id_: folders[id_].ending for id_ in jobs if folders[id_].ending}

    again = run(store, standin, proposed / "faults.json", *jobs)
    assert again.returncode == 0, again.stderr
    assert all(folders[id_].state in ENDED for id_ in jobs)
    assert {id_: folders[id_].ending for id_ in ended} == ended, "nothing runs twice"
    assert all(len(folders[id_].attempts) == 1 for id_ in ended)
    dft = load_round_config(Store(str(store)), 1).dft
    assert results_of(store, jobs, dft) == results_of(straight, jobs, dft)


def test_the_commands_that_look_after_jobs(straight, tmp_path, standin):
    store, folders = str(straight), folders_of(straight)
    status = gnome("dft", "status", store)
    assert status.returncode == 0
    assert "converged" in status.stdout
    assert "no_space" in status.stdout
    failed = next(id_ for id_ in folders.ids() if folders[id_].ending.reason == "crashed")
    info = gnome("dft", "info", store, failed[:10])
    assert "attempt 1: failed" in info.stdout
    assert f"crashed: {folders[failed].folder}" in info.stdout
    assert gnome("dft", "info", store, "nothing").returncode == 2
    report = gnome("dft", "report", store, "-o", str(tmp_path / "jobs.csv"))
    assert report.returncode == 0
    assert len((tmp_path / "jobs.csv").read_text().splitlines()) == len(folders.ids()) + 1
    checked = gnome_process("dft", "preflight", store, **standin.environment)
    assert "the program is there" in checked.stdout
    assert "0 problems" in checked.stdout

    # What failed is tried again when asked, and only then.
    assert "0 of 0" in gnome("dft", "retry", store, "--reason", "not_converged").stdout
    assert "1 of 1 jobs" in gnome("dft", "retry", store, failed[:12]).stdout
    assert folders[failed].state is State.EMITTED
    assert gnome_process("dft", "run", store, **standin.environment).returncode == 0
    assert folders[failed].state is State.CONVERGED
    assert [attempt.state for attempt in folders[failed].attempts] == [State.FAILED, State.CONVERGED]


# The same round in a bucket, its jobs run on machines that share nothing with the driver's but the bucket.


@pytest.fixture
def bucket(proposed, tmp_path) -> Generator[FakeGcs]:
    """The double of a bucket with the store's round 0, whose jobs stayed where they were run."""
    pytest.importorskip("google.cloud.storage", reason="pip install -e '.[gcs]'")
    with FakeGcs("lab") as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
        buckets._client.cache_clear()
        storage = Store("gs://lab/store").storage
        for path in (proposed / "store" / "rounds" / "r0000").rglob("*"):
            if path.is_file():
                storage.write(path.relative_to(proposed / "store").as_posix(), path.read_bytes())
        yield fake
    buckets._client.cache_clear()


def machine(folder: Path, proposed: Path, standin) -> dict[str, str]:
    """The environment of a machine with a disk of its own."""
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_DATA_HOME": str(folder / "data")}
    return {**own, "STANDIN_FAULTS": str(proposed / "faults.json"), **standin.environment}


def killed(until: Callable[[], bool], *arguments: str, **variables: str) -> None:
    """Run the command line until something has happened, then end it by SIGKILL."""
    command = [str(Path(sys.executable).with_name("gnome")), *arguments]
    process = subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not until() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, "it was to be killed before it ended"
    process.kill()
    process.wait()


def done(*arguments: str, **variables: str) -> str:
    ended = gnome_process(*arguments, **variables)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_round_in_a_bucket_whose_jobs_run_on_other_machines(straight, proposed, standin, bucket, tmp_path):
    root, folder = "gs://lab/store", tmp_path / "cluster" / "jobs"
    here, cluster, cloud = (machine(tmp_path / name, proposed, standin) for name in ("here", "cluster", "cloud"))
    bucket.fail("POST .*uploadType", status=503, times=3, done_first=True)
    bucket.fail("GET", status=502, times=3)
    killed_driver = gnome_process("round", "propose", root, crash_at="emit:after_write", **here)
    assert killed_driver.returncode == -signal.SIGKILL
    done("round", "propose", root, **here)
    jobs = proposals(str(straight), 1)["id"].to_pylist()
    assert sorted(proposals(root, 1)["id"].to_pylist()) == sorted(jobs)
    objects = [name for name in bucket.buckets["lab"] if name.startswith("store/jobs/")]
    assert len(objects) == 2, "one shard and its index, not a file a job"
    status = json.loads(done("dft", "status", root, "--json", **here))
    assert [(s["state"], s["jobs"]) for s in status["engines"][0]["states"]] == [("emitted", len(jobs))]

    # A cluster takes half of them; its run is killed, and so is its delivery in the midst of the upload.
    bucket.fail("POST .*uploadType", status=503, times=2, done_first=True)
    half = len(jobs) // 2
    assert f"{half} vasp jobs taken" in done("dft", "take", root, str(folder), "--jobs", str(half), **cluster)
    folders = JobFolders(folder)
    assert len(folders.ids()) == half
    toml = ("--config", str(proposed / "round.toml"))
    ended = lambda: sum(folders[id_].ending is not None for id_ in folders.ids()) >= 2  # noqa: E731
    killed(ended, "dft", "run", str(folder), *toml, **cluster)
    bucket.fail("POST .*uploadType", status=0, delay=3.0)
    slow = bucket.faults[-1]
    killed(lambda: not slow.times, "dft", "deliver", str(folder), **cluster)
    standing = BucketJobs(Store(root), "vasp")
    assert {standing.state(id_) for id_ in folders.ids()} == {State.TAKEN}, "no result before it is whole"
    assert "results delivered" in done("dft", "deliver", str(folder), **cluster)
    while any(folders[id_].state is State.RUNNING for id_ in folders.ids()):
        time.sleep(0.1)  # the system ends the workers
    done("dft", "run", str(folder), *toml, **cluster)

    # Another machine works on the bucket itself; it finds what nobody has taken.
    done("dft", "run", root, *toml, **cloud)
    standing.refresh()
    assert {standing.standing(id_).holder.folder for id_ in folders.ids()} == {str(folder)}
    assert sum(standing.state(id_) in ENDED for id_ in jobs) >= len(jobs) - half
    done("dft", "deliver", str(folder), **cluster)
    standing.refresh()
    assert all(standing.state(id_) in ENDED for id_ in jobs)
    assert not list((tmp_path / "cloud" / "data").rglob("job.json")), "what was delivered needs no room there"

    bucket.fail("GET", status=503, times=4)
    dead = gnome_process("round", "learn", root, crash_at="evaluate:after_write", **here)
    assert dead.returncode == -signal.SIGKILL
    done("round", "learn", root, **here)
    local, remote = Store(str(straight)), Store(root)
    evaluated = remote.commit(1, "evaluate").counts
    assert evaluated.n_in == evaluated.n_out + evaluated.n_dead == len(jobs)
    for stage, table, schema, own in (
        ("evaluate", "results", RESULT_SCHEMA, ["message", "attempt"]),  # which name the folders
        ("evaluate", "frames", FRAME_SCHEMA, []),
        ("ingest", "entries", ENTRY_SCHEMA, []),
    ):
        rows = [
            store.read_table(store.commit(1, stage), table, schema).drop_columns(own).to_pylist()
            for store in (local, remote)
        ]
        assert sorted(rows[0], key=repr) == sorted(rows[1], key=repr), table
    assert remote.commit(1, "hull").rows_digests == local.commit(1, "hull").rows_digests
    assert list(verify(remote)) == []
