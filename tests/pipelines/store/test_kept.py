"""What a process keeps of what it has read: only what is still so, and within bounds."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.errors import StoreError
from pipelines.store.kept import Kept
from pipelines.store.storage import LocalFolder
from pipelines.store.store import Store
from tests.pipelines.store.test_store import SCHEMA, write_commit


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.start_round(0, {"seed": 0})
    return store


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Paths in the order they were read."""
    paths, own = [], LocalFolder.read
    monkeypatch.setattr(LocalFolder, "read", lambda self, path: (paths.append(path), own(self, path))[1])
    return paths


def test_the_least_recently_used_goes_first_and_the_newest_stays():
    kept = Kept(10)
    for address in ("a", "b"):
        kept.put(address, 1, address.upper(), 5)
    assert kept.get("a", 1) == "A"
    kept.put("c", 1, "C", 5)
    assert [kept.get(address, 1) for address in "abc"] == ["A", None, "C"]
    assert kept.get("a", 2) is None, "another version"
    kept.put("d", 1, "D", 50)
    assert [kept.get(address, 1) for address in "acd"] == [None, None, "D"]
    kept.put("d", 2, "D2", 5)
    kept.put("e", 1, "E", 5)
    assert [kept.get("d", 2), kept.get("e", 1)] == ["D2", "E"], "a replaced value no longer counts"


def test_threads_share_what_is_kept_within_its_bounds():
    kept = Kept(100)

    def work(thread: int) -> None:
        for i in range(500):
            address = str((i * (thread + 1)) % 40)
            value = kept.get(address, 0)
            assert value in (None, address)
            kept.put(address, 0, address, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sum(kept.get(str(address), 0) is not None for address in range(40)) == 10


def test_a_commit_and_its_files_are_read_once_whoever_opens_the_store(store, reads):
    commit = store.publish(write_commit(store, ["a", "bb"]))
    for opened in (store, Store(store.root), pickle.loads(pickle.dumps(store))):
        assert opened.commit(0, "score") == commit
        assert opened.read_table(commit, "rows", SCHEMA, ["x"]).num_rows == 2
        assert opened.read_table(commit, "rows", SCHEMA)["id"].to_pylist() == ["a", "bb"]
    assert reads.count("rounds/r0000/score/COMMIT.json") == reads.count(commit.files[0].path) == 1
    assert len(pickle.dumps(store)) < 1000


def test_absence_is_not_kept(store):
    assert store.commit(0, "score") is None
    commit = store.publish(write_commit(store, ["a"]))
    assert store.commit(0, "score") == commit
    Path(store.root, "rounds/r0000/score/COMMIT.json").unlink()
    assert store.commit(0, "score") is None


def test_damage_after_reading_is_seen(store):
    commit = store.publish(write_commit(store, ["a"]))
    assert store.read_table(commit, "rows", SCHEMA).num_rows == 1
    path = Path(store.root, commit.files[0].path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="has changed since"):
        store.read_table(commit, "rows", SCHEMA)
    path = Path(store.root, "rounds/r0000/score/COMMIT.json")
    path.write_text(path.read_text().replace('"x"', '"y"').replace('"score"', '"other"'))
    with pytest.raises(StoreError, match="has been changed"):
        store.commit(0, "score")


def test_what_is_kept_is_good_for_the_bytes_that_were_asked_for_alone(store):
    commit = store.publish(write_commit(store, ["a"]))
    stat = commit.files[0]
    store.read_file(stat)
    with pytest.raises(StoreError, match="has changed since"):
        store.read_file(stat.model_copy(update={"crc32c": "00000000"}))


def test_a_store_that_keeps_nothing_reads_what_is_there(store, reads):
    commit = store.publish(write_commit(store, ["a"]))
    fresh = Store(store.root, keep=False)
    reads.clear()
    for _ in range(2):
        fresh.commit(0, "score")
        fresh.read_file(commit.files[0])
        fresh.round_config(0)
    assert len(reads) == 6
