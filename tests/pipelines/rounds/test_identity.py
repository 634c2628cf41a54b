"""What decides results is compared with what it was when they were asked for."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from dft.evaluators.make import make_evaluator
from dft.tables import protocol_json
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.default import DEFAULT
from gnome_core.potentials.relax import RelaxationFailure
from pipelines.beam.runners import runner_flags
from pipelines.errors import StoreError, UserError
from pipelines.evaluation import batches
from pipelines.reading.committed import proposals
from pipelines.rounds import driver
from pipelines.rounds.gc import leftovers, remove
from pipelines.rounds.plan import inputs_of
from pipelines.rounds.verify import verify
from pipelines.stages import evaluate
from pipelines.store.records import Attempt
from pipelines.store.store import Store


@pytest.fixture
def store(two_rounds, tmp_path) -> Store:
    shutil.copytree(two_rounds, tmp_path / "store")
    return Store(str(tmp_path / "store"))


class Stub:
    """An evaluator whose answers are failures; `scale` is what a potential's content makes it."""

    name = "potential:p.npz"

    def __init__(self, scale: str):
        self.scale = scale
        self.protocol = {"evaluator": "potential", "scale": scale}
        self.evaluated = 0

    def corrections(self, crystals):
        return None

    def evaluate(self, crystals, progress=None):
        self.evaluated += len(crystals)
        return [RelaxationFailure("not_finite", "", []) for _ in crystals]


def test_evaluate_refuses_jobs_of_another_protocol_before_it_computes(store):
    config = driver.load_round_config(store, 1)
    other = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"max_steps": 13})})
    inputs = {commit.key: commit for key in inputs_of(1, "evaluate") if (commit := store.commit(*key))}
    before = store.storage.files("jobs")
    job = driver.Job(store, 1, other, inputs, Attempt(1, "evaluate", "x"), runner_flags([]))
    with pytest.raises(UserError, match=rf"{DEFAULT} is not what the jobs were made for: its relax changed"):
        evaluate.run(job)
    assert store.storage.files("jobs") == before


def test_a_worker_refuses_another_potential_than_the_jobs_ask_for(store, monkeypatch):
    """Its file was replaced while the stage ran, or is another on this machine."""
    old, new = Stub("pair/old"), Stub("pair/new")
    jobs = proposals(store.root, 1).select(batches.CRYSTAL_COLUMNS)
    (batch,) = jobs.slice(0, 2).combine_chunks().to_batches()
    monkeypatch.setattr(batches, "make_evaluator", lambda name, config: new)
    step = batches.EvaluateBatch(store.root, "potential:p.npz", RelaxConfig(), protocol_json(old.protocol))
    with pytest.raises(UserError, match=r"potential:p.npz is not what the jobs were made for: its scale changed"):
        list(step.process(batch))
    assert new.evaluated == 0
    assert not store.storage.files("jobs/potential")


def test_results_that_another_potential_left_under_the_jobs_ids_are_not_taken(store, monkeypatch):
    """As a version that did not compare has left them."""
    jobs = proposals(store.root, 1).select(batches.CRYSTAL_COLUMNS)
    (batch,) = jobs.slice(0, 2).combine_chunks().to_batches()
    stubs = {"pair/old": Stub("pair/old"), "pair/new": Stub("pair/new")}
    for scale in ("pair/new", "pair/old", "pair/old"):
        monkeypatch.setattr(batches, "make_evaluator", lambda name, config, scale=scale: stubs[scale])
        protocol = protocol_json(stubs[scale].protocol)
        step = batches.EvaluateBatch(store.root, "potential:q.npz", RelaxConfig(), protocol)
        results = [item for item in step.process(batch) if isinstance(item, pa.RecordBatch)]
        assert set(results[0]["scale"].to_pylist()) == {scale}
    assert {scale: stub.evaluated for scale, stub in stubs.items()} == {"pair/old": 2, "pair/new": 2}


def test_the_protocol_is_that_of_the_potential_which_is_loaded(tmp_path):
    """Not of the file that has taken its place since."""
    from gnome_core.potentials.by_name import shipped_path

    path = tmp_path / "p.npz"
    for suffix in (".npz", ".json"):
        shutil.copy(Path(shipped_path("pretrained")).with_suffix(suffix), path.with_suffix(suffix))
    evaluator = make_evaluator(f"potential:{path}", RelaxConfig())
    before = protocol_json(evaluator.protocol)
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**record, "origin": "another"}))
    assert protocol_json(evaluator.protocol) == before
    assert protocol_json(make_evaluator(f"potential:{path}", RelaxConfig()).protocol) != before


def test_an_edited_config_of_a_closed_round_is_noticed(store):
    path = Path(store.root, "rounds/r0002/config.json")
    document = json.loads(path.read_text())
    document["selection"]["budget"] += 1
    path.write_text(json.dumps(document))
    for use in (lambda: driver.start_round(store, None), lambda: driver.load_round_config(store, 2)):
        with pytest.raises(StoreError, match=r"rounds/r0002/config.json has been changed since r0002/generate"):
            use()
    assert store.rounds() == [0, 1, 2]


@pytest.mark.parametrize("stage", ["hull", "generate"])
def test_a_commit_missing_from_a_closed_round_is_noticed_when_the_store_is_opened(stage, store):
    path = f"rounds/r0001/{stage}/COMMIT.json"
    store.storage.delete(path)
    with pytest.raises(StoreError, match=f"{path} is missing, with which the round was closed"):
        Store.open(store.root)
    assert path in {complaint.path for complaint in verify(Store.open(store.root, damaged=True))}


def test_gc_leaves_what_has_been_committed_since_it_looked(store):
    commit = store.commit(2, "train")
    Path(store.root, "rounds/r0002/train/COMMIT.json").rename(Path(store.root, "aside"))
    attempt = f"rounds/r0002/train/attempts/{commit.attempt}"
    store.storage.delete(f"{attempt}/DONE.json")  # its driver is about to write it
    (listed,) = [left for left in leftovers(store, timedelta(0)) if left.path == attempt]
    Path(store.root, "aside").rename(Path(store.root, "rounds/r0002/train/COMMIT.json"))
    assert not remove(store, listed)
    for stat in commit.files:
        store.check_file(stat)


def test_gc_leaves_an_attempt_that_has_finished_since_it_looked(store):
    job = driver._job_file(store, 2, "train")[1]
    attempt = store.new_attempt(2, "train", job)
    Path(store.root, "rounds/r0002/train/COMMIT.json").unlink()
    Path(store.root, "rounds/r0002/ROUND.json").unlink()
    (listed,) = [left for left in leftovers(store, timedelta(0)) if left.path == attempt.path]
    store.mark_launched(attempt)
    assert not remove(store, listed)
    assert store.storage.exists(f"{attempt.path}/JOB.json")
