"""A round that has not closed can be given up, and what is left is a whole store."""

import shutil

import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.errors import UserError
from pipelines.rounds import driver
from pipelines.rounds.drop import drop_round, would_go
from pipelines.rounds.verify import verify
from pipelines.store.storage import LocalFolder
from pipelines.store.store import Store
from tests.pipelines.conftest import digests


@pytest.fixture
def store(two_rounds, tmp_path) -> Store:
    """Round 2 is open."""
    shutil.copytree(two_rounds, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    store.storage.delete("rounds/r0002/ROUND.json")
    return store


def test_the_command_shows_what_goes_and_asks(store):
    before = digests(store)
    refused = CliRunner().invoke(app, ["round", "drop", store.root], input="n\n")
    assert refused.exit_code == 1
    assert "r0002/generate" in refused.stdout
    assert digests(store) == before
    done = CliRunner().invoke(app, ["round", "drop", store.root, "--yes"])
    assert done.exit_code == 0, done.output
    assert store.rounds() == [0, 1]
    assert list(verify(store)) == []
    assert digests(store) == {key: value for key, value in before.items() if key[0] in "01"}
    with pytest.raises(UserError, match="round 1 is closed"):
        would_go(store)
    assert driver.start_round(store, None) == 2


def test_a_drop_that_is_killed_leaves_a_round_that_can_be_dropped(store, monkeypatch):
    n = len(would_go(store).files)
    delete, left = LocalFolder.delete, [0]

    def until_killed(self, path: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        delete(self, path)

    monkeypatch.setattr(LocalFolder, "delete", until_killed)
    for after in (1, 3, 9, n // 4):
        left[0] = after
        with pytest.raises(KeyboardInterrupt):
            drop_round(store, 2)
        assert driver.open_round(store) == 2
        assert list(verify(store)) == []
    left[0] = n + 20
    drop_round(store, 2)
    assert store.rounds() == [0, 1]
    assert not store.storage.files("rounds/r0002")


def test_a_store_whose_first_round_is_dropped_can_be_made_again(initialised, tmp_path):
    shutil.copytree(initialised, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    config = driver.load_round_config(store, 0)
    store.storage.delete("rounds/r0000/ROUND.json")
    drop_round(store, 0)
    assert store.rounds() == []
    driver.init_store(store.root, config.model_copy(update={"seed": 4}))
    assert store.rounds() == [0]
