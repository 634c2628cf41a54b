"""Jobs of a store in a bucket, run in folders elsewhere: who has them, what comes back, whatever is killed."""

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from dft.config import DftConfig
from dft.jobs.engine import OutputError, StepFailed, job_files, read_job, run_attempt
from dft.jobs.folders import Job, JobFolders, State
from dft.tables import job_digest, result_batch
from gnome_core.crystals.crystal import Crystal
from pipelines.errors import UserError
from pipelines.evaluation import taken_jobs
from pipelines.evaluation.taken_jobs import TakenFolder, deliver, give_back, open_again, take
from pipelines.reading import bucket_jobs
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.rounds.gc import leftovers, remove
from pipelines.rounds.verify import verify
from pipelines.store.store import Store
from tests.dft.toy import Toy

ENGINE = "espresso"


def made(n: int) -> dict[str, Job]:
    crystals = [Crystal(np.eye(3) * (4 + 0.1 * i), [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8]) for i in range(n)]
    jobs = [Job(job_digest(crystal, "{}"), crystal, ENGINE, "{}") for crystal in crystals]
    return {job.id: job for job in jobs}


JOBS = made(7)
FILES = {id_: job_files(job, Toy()) for id_, job in JOBS.items()}


@pytest.fixture
def store(gcs) -> Store:
    return Store("gs://lab/a/store")


@pytest.fixture
def jobs(store) -> BucketJobs:
    jobs = BucketJobs(store, ENGINE)
    assert jobs.emit(FILES) == len(FILES)
    return jobs


def folder(path: Path, store: Store) -> TakenFolder:
    return TakenFolder.make(path, store, ENGINE, DftConfig(workers=3))


def run(here: TakenFolder, engine: Toy, ids=None) -> None:
    """What `gnome dft run FOLDER` does, in this process."""
    for id_ in here.folders.ids() if ids is None else ids:
        job = here.folders[id_]
        if attempt := job.claim():
            run_attempt(job, attempt, engine)


def states(store: Store) -> dict[str, State]:
    jobs = BucketJobs(store, ENGINE)
    return {id_: jobs.state(id_) for id_ in jobs.ids()}


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def kill_in(monkeypatch, where, name: str):
    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(where, name, killed)


def test_many_jobs_are_few_objects_and_are_emitted_once(jobs, store, gcs, monkeypatch):
    names = [name for name in gcs.buckets["lab"] if "/shards/" in name]
    assert sorted(Path(name).suffix for name in names) == [".json", ".tar"]
    assert BucketJobs(store, ENGINE).emit(FILES) == 0
    monkeypatch.setattr(bucket_jobs, "SHARD", 4)
    more = {id_: job_files(job, Toy()) for id_, job in made(12).items()}
    assert BucketJobs(store, ENGINE).emit(more) == 5
    assert len([name for name in gcs.buckets["lab"] if name.endswith(".tar")]) == 3
    late = BucketJobs(store, ENGINE)
    assert late.ids() == sorted(more)
    assert set(states(store).values()) == {State.EMITTED}
    assert late.asked(late.ids()[0]).to_json() == more[late.ids()[0]]["job.json"]


def test_workers_that_emit_the_same_jobs_make_one_shard(store, gcs):
    gcs.fail("POST .*uploadType", status=503, times=3, done_first=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: BucketJobs(store, ENGINE).emit(FILES), range(4)))
    jobs = BucketJobs(store, ENGINE)
    assert jobs.ids() == sorted(FILES)
    assert len([name for name in gcs.buckets["lab"] if name.endswith(".json")]) == 1
    assert all(jobs.files(id_) == FILES[id_] for id_ in jobs.ids())


def test_a_shard_that_was_not_finished_is_no_shard(store, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in(patch, bucket_jobs, "sealed")
        with pytest.raises(Killed):
            BucketJobs(store, ENGINE).emit(FILES)
    assert BucketJobs(store, ENGINE).ids() == []
    assert BucketJobs(store, ENGINE).emit(FILES) == len(FILES)


def test_of_machines_that_take_at_once_each_job_goes_to_one(jobs, store, gcs, tmp_path):
    gcs.fail("POST .*uploadType", status=0, times=3, delay=0.1)
    gcs.fail("POST .*uploadType", status=503, times=2, done_first=True)
    folders = [folder(tmp_path / str(n), store) for n in range(5)]
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(lambda here: take(here, 2), folders))
    assert sorted(id_ for ids in found for id_ in ids) == sorted(JOBS)
    assert sorted(map(len, found)) == [0, 1, 2, 2, 2]
    assert set(states(store).values()) == {State.TAKEN}
    for here, ids in zip(folders, found, strict=True):
        assert here.folders.ids() == sorted(ids)
        assert all(here.folders[id_].job.id == id_ for id_ in ids)
        assert {BucketJobs(store, ENGINE).standing(id_).holder.folder for id_ in ids} <= {str(here.folders.root)}
    assert take(folders[0], 2) == []
    with pytest.raises(UserError, match="take these into another folder"):
        TakenFolder.make(tmp_path / "0", Store("gs://lab/other"), ENGINE, DftConfig())


def test_what_was_taken_and_did_not_arrive_is_put_there_by_the_next_call(jobs, store, tmp_path, monkeypatch):
    here = folder(tmp_path / "here", store)
    with monkeypatch.context() as patch:
        kill_in(patch, JobFolders, "emit")
        with pytest.raises(Killed):
            take(here, 3)
    assert here.folders.ids() == []
    assert list(states(store).values()).count(State.TAKEN) == 3
    again = folder(tmp_path / "here", store)
    assert again.holder == here.holder, "a folder stays who it is"
    assert len(take(again, 3)) == 3
    assert list(states(store).values()).count(State.TAKEN) == 3


def columns(id_: str, calculation) -> dict:
    batch = result_batch([id_], [JOBS[id_].crystal], [calculation.outcome], "toy", [calculation])
    return batch.drop_columns(["message"]).to_pydict()


def test_results_are_those_of_the_folder(jobs, store, tmp_path, monkeypatch):
    """Converged, failed and unreadable, with what a killed program leaves behind; in several objects."""
    monkeypatch.setattr(taken_jobs, "SHARD", 3)
    here = folder(tmp_path / "here", store)
    failing, damaged, late, *rest = take(here)
    run(here, Toy(relax2=StepFailed("crashed", "bang")), [failing])
    run(here, Toy(), [damaged, *rest])
    (output,) = here.folders[damaged].folder.glob("attempts/01/static/OUT")
    output.write_text("{")
    for name in ("POTCAR", ".1234.tmp"):
        (here.folders[rest[0]].folder / "attempts/01/static" / name).write_text("stays here")
    done = deliver(here)
    assert (sorted(done.ids), done.refused) == (sorted(set(JOBS) - {late}), {})
    assert deliver(here).ids == []
    assert states(store)[late] is State.TAKEN
    assert states(store)[failing] is State.FAILED

    there = BucketJobs(store, ENGINE)
    there.fetch(there.ids())
    for id_ in (failing, *rest):
        assert columns(id_, there.read(id_, Toy())) == columns(id_, read_job(here.folders[id_], Toy()))
    assert there.read(late, Toy()) is None
    assert there.ending(late) is None
    assert there.ending(rest[0]).energy_per_atom == here.folders[rest[0]].ending.energy_per_atom
    with pytest.raises(Exception, match=rf"gs://lab/a/store/jobs/espresso/results/.*tar:{damaged}/attempts/01/static"):
        there.read(damaged, Toy())
    assert not [path for path in there.files(rest[0]) if "POTCAR" in path or path.endswith(".tmp")]


def test_an_upload_that_was_cut_off_leaves_no_result(jobs, store, gcs, tmp_path, monkeypatch):
    here = folder(tmp_path / "here", store)
    take(here)
    run(here, Toy())
    with monkeypatch.context() as patch:
        kill_in(patch, taken_jobs, "delivered")  # the tar is there, the record is not
        with pytest.raises(Killed):
            deliver(here)
    assert set(states(store).values()) == {State.TAKEN}
    assert all(BucketJobs(store, ENGINE).read(id_, Toy()) is None for id_ in JOBS)
    with monkeypatch.context() as patch:
        kill_in(patch, taken_jobs, "create_json")  # the record is there, the folder does not know
        with pytest.raises(Killed):
            deliver(here)
    assert set(states(store).values()) == {State.CONVERGED}
    records = len(store.storage.children("jobs/espresso/ledger"))
    assert deliver(here).ids == []
    assert len(store.storage.children("jobs/espresso/ledger")) == records


def test_results_that_were_changed_or_are_gone_are_refused_one_by_one(jobs, store, gcs, tmp_path):
    here = folder(tmp_path / "here", store)
    first = take(here, 2)
    run(here, Toy())
    deliver(here)
    (bad,) = store.storage.children("jobs/espresso/results")
    rest = take(here)
    run(here, Toy())
    deliver(here)
    store.storage.write(f"jobs/espresso/results/{bad}", b"other bytes")
    there = BucketJobs(store, ENGINE)
    there.fetch(there.ids())
    for id_ in first:
        with pytest.raises(OutputError, match="has changed"):
            there.read(id_, Toy())
    assert all(there.read(id_, Toy()) for id_ in rest)
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    store.storage.delete(f"jobs/espresso/results/{bad}")
    with pytest.raises(OutputError, match="is missing"):
        BucketJobs(store, ENGINE).read(first[0], Toy())


def test_a_damaged_shard_stops_no_other_job(jobs, store, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="pipelines")  # whatever commands of this process have set before
    (bad,) = [path for path in store.storage.files("jobs/espresso/shards") if path.endswith(".tar")]
    more = {id_: job_files(job, Toy()) for id_, job in made(9).items()}
    BucketJobs(store, ENGINE).emit(more)
    here = folder(tmp_path / "here", store)
    first = take(here, ids=list(JOBS)[:1])
    run(here, Toy(static=StepFailed("crashed", "bang")))
    deliver(here)
    (results,) = store.storage.files("jobs/espresso/results")
    other = folder(tmp_path / "other", store)
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    store.storage.write(results, b"other bytes")
    open_again(BucketJobs(store, ENGINE), lambda id_, _: id_ in first)
    assert take(other, ids=first) == first
    assert "without its earlier attempts" in caplog.text
    assert [attempt.number for attempt in other.folders[first[0]].attempts] == [2]
    store.storage.write(bad, b"other bytes")
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    assert sorted(take(other)) == sorted(set(more) - set(JOBS))
    assert "6 jobs of it stay out" in caplog.text


def test_jobs_given_back_are_run_by_others_and_never_here(jobs, store, tmp_path):
    a, b = folder(tmp_path / "a", store), folder(tmp_path / "b", store)
    ids = take(a)
    run(a, Toy(), ids[:2])
    under_way = a.folders[ids[2]].claim()
    assert under_way is not None
    back = give_back(a)
    assert sorted(back) == sorted(ids[3:]), "neither what has ended nor what is under way"
    assert a.folders.ids() == sorted(ids[:3])
    assert sorted(take(b)) == sorted(back)
    run(b, Toy())
    assert sorted(deliver(b).ids) == sorted(back)
    assert sorted(deliver(a).ids) == sorted(ids[:2])


def test_a_machine_that_comes_back_after_its_jobs_were_opened_is_told(jobs, store, tmp_path):
    a, b = folder(tmp_path / "a", store), folder(tmp_path / "b", store)
    taken, kept = take(a, 2)
    run(a, Toy())
    lost = a.holder.host
    freed = open_again(BucketJobs(store, ENGINE), lambda _, s: s.state is State.TAKEN and s.holder.host == lost)
    assert sorted(freed) == sorted([taken, kept])
    assert take(b, ids=[taken]) == [taken]
    done = deliver(a)
    assert done.ids == [kept], "nobody else's: its results count"
    assert "taken by" in done.refused[taken]
    assert str(b.folders.root) in done.refused[taken]
    run(b, Toy())
    assert deliver(b).ids == [taken]
    assert "converged by" in deliver(a).refused[taken]


def test_a_job_tried_again_elsewhere_goes_on_after_what_had_converged(jobs, store, tmp_path):
    a, b = folder(tmp_path / "a", store), folder(tmp_path / "b", store)
    (id_,) = take(a, 1)
    run(a, Toy(static=StepFailed("crashed", "bang")))
    deliver(a)
    assert open_again(BucketJobs(store, ENGINE), lambda one, _: one == id_) == [id_]
    there = BucketJobs(store, ENGINE)
    assert there.state(id_) is State.EMITTED
    assert there.read(id_, Toy()) is None, "as a job in a folder that is asked for again"
    assert take(b, ids=[id_]) == [id_]
    engine = Toy()
    run(b, engine)
    assert [step for step, _, _ in engine.ran] == ["static"]
    assert deliver(b).ids == [id_]
    there = BucketJobs(store, ENGINE)
    assert there.read(id_, Toy()).attempt == 2
    assert (there.line(id_).state, there.line(id_).attempts) == (State.CONVERGED, 2)
    assert deliver(a).ids == []

    # In the folder that had it before, too.
    assert open_again(there, lambda one, _: one == id_) == [id_]
    assert take(b, ids=[id_]) == [id_]
    assert b.folders[id_].state is State.EMITTED
    assert len(b.folders[id_].attempts) == 3


def test_what_killed_writers_left_is_found_and_damage_is_told(jobs, store, tmp_path, monkeypatch):
    here = folder(tmp_path / "here", store)
    take(here)
    run(here, Toy())
    with monkeypatch.context() as patch:
        kill_in(patch, taken_jobs, "delivered")
        with pytest.raises(Killed):
            deliver(here)
    (lost,) = store.storage.children("jobs/espresso/results")
    deliver(here)
    assert list(leftovers(store, timedelta(days=1))) == []
    (left,) = leftovers(store, timedelta(0))
    assert left.path == f"jobs/espresso/results/{lost}"
    assert remove(store, left)
    assert list(leftovers(store, timedelta(0))) == []
    assert list(verify(store)) == []
    (kept,) = store.storage.children("jobs/espresso/results")
    store.storage.write(f"jobs/espresso/results/{kept}", b"other bytes")
    assert [one.path for one in verify(store)] == [f"jobs/espresso/results/{kept}"]
    store.storage.delete("jobs/espresso/ledger/00000001.json")
    assert [one.path for one in verify(store)] == ["jobs/espresso/ledger/00000001.json"]
