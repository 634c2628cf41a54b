"""A finished attempt that is damaged before its commit is done again."""

import shutil
from pathlib import Path

import pytest

from pipelines.rounds import driver
from pipelines.rounds.verify import verify
from pipelines.store.records import Attempt
from pipelines.store.store import DONE, MANIFEST, Store
from tests.pipelines.conftest import killed_at


@pytest.fixture
def finished(two_rounds, tmp_path, monkeypatch) -> Store:
    """Round 2's select has finished, and was killed before its commit."""
    shutil.copytree(two_rounds, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    for path in store.storage.files("rounds/r0002"):
        if not path.endswith("config.json") and path.split("/")[2] not in ("generate", "score"):
            store.storage.delete(path)
    with killed_at(monkeypatch, "select", "after_job"):
        list(driver.run_stages(store, 2, ["select"]))
    return store


def attempts(store: Store) -> list[Path]:
    return sorted(Path(store.root, "rounds/r0002/select/attempts").iterdir())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["flip", "remove", "none"])
def test_a_damaged_attempt_is_not_adopted(damage, finished, two_rounds):
    (part,) = attempts(finished)[0].glob("selected/part-*")
    if damage == "flip":
        flip(part)
    elif damage == "remove":
        part.unlink()
    list(driver.run_stages(finished, 2, ["select"]))
    assert len(attempts(finished)) == (1 if damage == "none" else 2)
    assert finished.commit(2, "select").digest == Store(str(two_rounds)).commit(2, "select").digest
    assert list(verify(finished)) == []


def test_a_damaged_launched_attempt_is_not_adopted(finished):
    job = driver._job_file(finished, 2, "select")[1]
    attempt = Attempt(2, "select", attempts(finished)[0].name)
    finished.storage.delete(f"{attempt.path}/{DONE}")
    finished.mark_launched(attempt)
    assert finished.launched_attempt(2, "select", job) == attempt
    flip(next(attempts(finished)[0].glob("selected/part-*")))
    assert finished.launched_attempt(2, "select", job) is None
    finished.storage.write(f"{attempt.path}/{MANIFEST}", b'{"files": ')
    assert finished.launched_attempt(2, "select", job) is None
