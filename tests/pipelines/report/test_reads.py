"""A report reads what a store holds once, however many of its sections need it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.reading.committed import proposals
from pipelines.report.collect import collect_page
from pipelines.report.page import render
from pipelines.rounds.plan import stages_of
from pipelines.store.storage import LocalFolder
from pipelines.store.store import Store


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """Store-relative path -> how often its bytes were read."""
    counted: Counter[str] = Counter()

    def count(own: Callable) -> Callable:
        def counting(self, path):
            counted[path] += 1
            return own(self, path)

        return counting

    for name in ("read", "fetch"):
        monkeypatch.setattr(LocalFolder, name, count(getattr(LocalFolder, name)))
    return counted


def test_each_commit_and_each_file_is_read_once_for_a_report(two_rounds, tmp_path, reads):
    store = Store(str(shutil.copytree(two_rounds, tmp_path / "store")))  # one that this process has not read
    first = render(collect_page(store))
    rounds = store.rounds()
    assert rounds == [0, 1, 2]
    documents = {f"rounds/r{r:04d}/config.json" for r in rounds}
    documents |= {f"rounds/r{r:04d}/{stage}/COMMIT.json" for r in rounds for stage in stages_of(r)}
    files = {stat.path for r in rounds for stage in stages_of(r) for stat in store.commit(r, stage).files}
    assert set(reads) <= documents | files
    assert set(reads.values()) == {1}
    once = reads.total()
    assert render(collect_page(store)) == first
    assert reads.total() == once, "nothing is read for the second report"
    reads.clear()
    assert render(collect_page(Store(store.root, keep=False))) == first
    assert reads.total() > once, "what is not kept is read again"


def test_a_store_that_was_made_again_is_read_again(two_rounds, initialised, tmp_path):
    root = Path(shutil.copytree(two_rounds, tmp_path / "store"))
    before = collect_page(Store(str(root)))
    assert before.rounds == [0, 1, 2]
    assert len(proposals(str(root), 1))
    shutil.rmtree(root)
    shutil.copytree(initialised, root)
    with pytest.raises(FileNotFoundError, match="r0001/emit is not committed"):
        proposals(str(root), 1)
    after = collect_page(Store(str(root)))
    assert after.rounds == [0]
    assert len(after.hull_entries) < len(before.hull_entries)
