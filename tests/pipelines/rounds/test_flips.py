"""One byte flipped in every kind of file of a closed store: who reads the byte names the file."""

import re
import shutil
from pathlib import Path

import pytest

from pipelines.analyses import Inputs, Options, run_analysis
from pipelines.cli.export_files import export_entries
from pipelines.errors import StoreError, UserError
from pipelines.reading.committed import hull_until
from pipelines.report.collect import collect_page
from pipelines.report.page import render, write_store_report
from pipelines.rounds import driver
from pipelines.rounds.verify import verify
from pipelines.store.store import Store
from tools.attack import HARMLESS, flip, kind, kinds


@pytest.fixture(scope="module")
def closed(two_rounds, tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("flips") / "store"
    shutil.copytree(two_rounds, path)
    store = Store(str(path), keep=False)
    for name in ("growth", "displaced"):
        run_analysis(Inputs(store), name, Options())
    write_store_report(store, collect_page(store))
    return store


def readings(store: Store, folder: Path) -> tuple[str, bytes]:
    """What a report and an export say of the store, to a process that holds nothing of its newest hull."""
    for round_ in (0, 1):  # as many as are held
        hull_until(store.root, round_)
    export_entries(store, folder / "entries.csv", stable_only=False, format="csv")
    return render(collect_page(store)), (folder / "entries.csv").read_bytes()


def test_every_reader_of_a_flipped_byte_names_its_file(closed, tmp_path):
    expected = readings(closed, tmp_path)
    found = kinds(closed)
    assert len(found) > 50
    unnoticed, told = set(), {}  # told: whether the error that a reader raised names the file
    for name, path in found.items():
        harmless = any(re.search(pattern, name) for pattern in HARMLESS.values())
        content = flip(Path(closed.root, path))
        try:
            if (path in {complaint.path for complaint in verify(closed)}) == harmless:
                unnoticed.add(name)
            try:
                read = readings(closed, tmp_path)
            except (StoreError, UserError) as error:
                told[name] = path in str(error)
            else:
                # Of an analysis that is left out the page says so.
                assert read == expected or (path in read[0] and "is left out" in read[0]), name
        finally:
            Path(closed.root, path).write_bytes(content)
    assert unnoticed == set(), "harmless ones are no damage, all others are named"
    assert [name for name, named in told.items() if not named] == []
    for part in ("hull/COMMIT.json", "/entries/", "config.json"):
        assert any(part in name for name in told), part
    assert readings(closed, tmp_path) == expected
    assert {label for label, pattern in HARMLESS.items() if not any(re.search(pattern, name) for name in found)} <= {
        "checkpoint",  # a member that has ended leaves none
        "progress",  # nor does a stage of a few seconds
    }


def test_flipped_bytes_that_are_harmless_change_no_later_round(closed, tmp_path):
    """The next round begins on a store whose harmless files are all damaged, and makes the same rows."""
    outcomes = []
    for damaged in (False, True):
        root = tmp_path / str(damaged)
        shutil.copytree(closed.root, root)
        store = Store(str(root), keep=False)
        if damaged:
            for path in store.storage.files("."):
                if any(re.search(pattern, kind(path)) for pattern in HARMLESS.values()):
                    flip(root / path)
        round_ = driver.start_round(store, None)
        list(driver.run_stages(store, round_, ["generate", "score"]))
        outcomes.append([store.commit(round_, stage).rows_digests for stage in ("generate", "score")])
    assert outcomes[0] == outcomes[1]
