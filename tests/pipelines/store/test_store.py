import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.errors import StoreError, UserError
from pipelines.store.records import Commit, Counts, JobFile, Manifest, table_digests
from pipelines.store.store import Store

SCHEMA = pa.schema([("id", pa.string()), ("x", pa.float64())])
JOB = JobFile(stage="score", inputs={}, config="c", code="0")


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.start_round(0, {"seed": 0})
    return store


def write_commit(store: Store, ids: list[str], counts: Counts | None = None) -> Commit:
    attempt = store.new_attempt(0, "score", JOB)
    rows = pa.table({"id": ids, "x": [float(len(i)) for i in ids]}, SCHEMA)
    files = [store.write_table(f"{attempt.path}/rows/part-0.parquet", "rows", rows)]
    counts = counts or Counts(n_in=len(ids), n_out=len(ids))
    digests = table_digests(files)
    return Commit(
        **dict(JOB), round=0, attempt=attempt.id, files=files, rows_digests=digests, counts=counts, seconds=1.0
    )


def test_committed_rows_read_back(store):
    commit = store.publish(write_commit(store, ["a", "bb"]))
    assert store.commit(0, "score") == commit
    assert store.read_table(commit, "rows", SCHEMA).to_pylist() == [{"id": "a", "x": 1.0}, {"id": "bb", "x": 2.0}]
    assert store.read_table(commit, "nothing", SCHEMA).num_rows == 0
    assert store.read_table(commit, "rows", SCHEMA, ["x"]).column_names == ["x"]


def test_an_uncommitted_attempt_does_not_exist(store):
    write_commit(store, ["a"])
    assert store.commit(0, "score") is None


def test_one_of_many_racing_commits_wins_and_all_see_it(store):
    commits = [write_commit(store, [f"row{i}"]) for i in range(16)]
    with ThreadPoolExecutor(16) as pool:
        winners = list(pool.map(store.publish, commits))
    assert {winner.attempt for winner in winners} == {store.commit(0, "score").attempt}
    left = [path.name for path in Path(store.root).rglob("*.tmp")]
    assert left == []


def test_counts_that_do_not_add_up_are_not_committed(store):
    counts = Counts(n_in=4, n_out=1, rejected={"duplicate": 1}, dead={"not_finite": 1})
    with pytest.raises(StoreError, match="in 4 != out 1"):
        store.publish(write_commit(store, ["a"], counts))
    assert store.commit(0, "score") is None


def test_negative_counts_are_not_committed(store):
    counts = Counts(n_in=1, n_out=1, rejected={"duplicate": -1, "known_formula": 1})
    with pytest.raises(StoreError):
        store.publish(write_commit(store, ["a"], counts))


def test_a_changed_byte_is_found_before_commit_and_on_reading(store):
    commit = write_commit(store, ["a"])
    path = Path(store.root, commit.files[0].path)
    good = path.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bad)
    with pytest.raises(StoreError, match="changed since"):
        store.publish(commit)
    path.write_bytes(good)
    store.publish(commit)
    path.write_bytes(bad)
    with pytest.raises(StoreError, match=commit.files[0].path):
        store.read_table(commit, "rows", SCHEMA)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        store.read_table(commit, "rows", SCHEMA)


def test_equal_rows_give_equal_commit_digests_whoever_wrote_them(store):
    first, second = write_commit(store, ["a", "b"]), write_commit(store, ["b", "a"])
    assert first.attempt != second.attempt
    assert first.digest == second.digest != write_commit(store, ["a", "c"]).digest


def test_a_round_keeps_its_config(store):
    assert store.start_round(0, {"seed": 0}) == store.start_round(0, {"seed": 0})
    with pytest.raises(UserError, match="seed"):
        store.start_round(0, {"seed": 1})


def test_finished_attempts_are_adopted_only_for_the_same_job(store):
    attempt = store.new_attempt(0, "score", JOB)
    assert store.finished_attempt(0, "score", JOB) is None
    store.finish_attempt(attempt, Manifest(files=[], counts=Counts(n_in=0, n_out=0)), 1.5)
    found = store.finished_attempt(0, "score", JOB)
    assert found is not None
    assert (found[0], found[2]) == (attempt, 1.5)
    assert store.finished_attempt(0, "score", JOB.model_copy(update={"config": "other"})) is None


def test_no_store_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="gnome init"):
        Store.open(str(tmp_path))
    with pytest.raises(UserError, match="gs://BUCKET/PATH"):
        Store.open("s3://bucket/store")


def test_round_closes_last(store):
    commit = store.publish(write_commit(store, ["a"]))
    assert not store.is_closed(0)
    store.close_round(0, [commit])
    document = json.loads(Path(store.root, "rounds/r0000/ROUND.json").read_text())
    assert document["stages"] == {"score": commit.digest}
