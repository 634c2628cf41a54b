"""Stores in buckets, against a double of the service that enforces generation preconditions and fails on request."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import click
import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.errors import StoreError, UserError
from pipelines.reading.analyses import kept_analyses
from pipelines.reading.members import member_addresses
from pipelines.rounds import driver
from pipelines.rounds.config import load_config
from pipelines.rounds.drop import drop_round
from pipelines.rounds.gc import leftovers, remove
from pipelines.rounds.plan import stages_of
from pipelines.rounds.verify import verify
from pipelines.stages.train_folder import training_folder
from pipelines.store import bucket as buckets
from pipelines.store.bucket import Bucket
from pipelines.store.store import Store
from tests.pipelines.conftest import digests
from tests.pipelines.report.serving import get, served_here
from tests.pipelines.store.gcs import FakeGcs
from tests.pipelines.store.test_store import SCHEMA, write_commit

pytest.importorskip("google.cloud.storage", reason="pip install -e '.[gcs]'")

POTENTIAL_TOML = """
[model]
layers = 1
hidden_irreps = "4x0e+4x1o"
edge_irreps = "0e+1o"
cutoff = 3.5
radial_width = 8
[training]
epochs = 1
validate_every = 1
"""
COMMIT = "/store/rounds/r0000/score/COMMIT.json"


@pytest.fixture
def folder(gcs) -> Bucket:
    return Bucket.at("gs://lab/a/store")


@pytest.fixture
def store(gcs) -> Store:
    store = Store("gs://lab/a/store/")
    store.start_round(0, {"seed": 0})
    return store


def test_objects_come_back_and_missing_ones_are_said_to_be(folder):
    data = np.random.default_rng(0).bytes(9 << 20)  # beyond 8 MiB uploads are resumable
    folder.write("x/large", data)
    folder.write("x/y/small", b"\r\n--first\r\n")
    folder.write("x/y/small", b"\r\n--then\r\n")
    assert folder.read("x/large") == data
    assert folder.read("x/y/small") == b"\r\n--then\r\n"
    assert folder.checksum("x/large") == Store("gs://lab/a/store").storage.checksum("x/large")
    assert folder.checksum("x/large")[0] == len(data)
    assert folder.exists("x/large")
    assert not folder.exists("x")
    for missing in (folder.read, folder.checksum, folder.fetch):
        with pytest.raises(FileNotFoundError, match="gs://lab/a/store/x/none"):
            missing("x/none")


def test_children_are_one_level_over_many_pages(folder, gcs):
    for name in ("b", "a/1", "a/2", "c/d/e", "f", "g", "h"):
        folder.write(f"top/{name}", b"")
    folder.write("topmost/i", b"")
    assert folder.children("top") == ["a", "b", "c", "f", "g", "h"]
    assert len(gcs.requests("GET .*pageToken")) == 1
    assert folder.children("none") == []
    gcs.tokens_expire = 2
    assert folder.children("top") == ["a", "b", "c", "f", "g", "h"], "begun again, nothing twice"


def test_files_are_all_below_and_are_deleted(folder):
    for name in ("b", "a/1", "a/2", "c/d/e", "f"):
        folder.write(f"top/{name}", name.encode())
    folder.write("topmost/i", b"")
    sizes = {"top/a/1": 3, "top/a/2": 3, "top/b": 1, "top/c/d/e": 5, "top/f": 1}
    assert folder.files("top") == sizes
    folder.delete("top/a/1")
    folder.delete("top/a/1")
    assert folder.files("top/a") == {"top/a/2": 3}


def test_create_makes_an_object_once(folder):
    assert folder.create("once", b"mine")
    assert not folder.create("once", b"yours")
    assert folder.read("once") == b"mine"


@pytest.mark.parametrize("status", [500, 503])
def test_a_lost_answer_to_our_own_create_is_not_a_lost_race(status, folder, gcs):
    gcs.fail("POST .*uploadType", status=status, done_first=True)
    assert folder.create("once", b"mine")
    assert [s for _, s in gcs.requests("POST")] == [status, 412]
    gcs.fail("POST .*uploadType", status=status, done_first=True)
    assert not folder.create("once", b"yours")


def test_errors_and_slow_answers_are_retried(folder, gcs, monkeypatch):
    monkeypatch.setattr(buckets, "TIMEOUT", (1.0, 0.3))
    for pattern, status in (("POST", 502), ("GET", 503), ("GET", 429), ("GET", 500)):
        gcs.fail(pattern, status=status)
    gcs.fail("alt=media", status=0, delay=0.8)
    folder.write("x", b"data")
    assert folder.children("") == ["x"]
    assert folder.read("x") == b"data"
    assert folder.checksum("x")[0] == 4
    assert not [fault for fault in gcs.faults if fault.times]


def test_a_resumable_upload_goes_on_after_an_error(folder, gcs):
    data = b"q" * (9 << 20)
    gcs.fail("PUT", status=503)
    folder.write("large", data)
    assert folder.read("large") == data


def test_what_never_works_ends(folder, gcs, monkeypatch):
    monkeypatch.setattr(buckets, "GIVE_UP", 1.0)
    buckets._retry.cache_clear()
    gcs.fail("GET", status=503, times=10_000)
    with pytest.raises(Exception, match=r"503|Timeout"):
        folder.read("x")
    buckets._retry.cache_clear()


def test_damage_on_the_way_is_noticed(folder, gcs, monkeypatch):
    folder.write("x", b"good")
    honest = gcs.media

    def damaged(stored, range_):
        answer = honest(stored, range_)
        answer.body = b"evil"
        return answer

    monkeypatch.setattr(gcs, "media", damaged)
    with pytest.raises(Exception, match=r"[Cc]hecksum"):
        folder.read("x")
    with pytest.raises(Exception, match=r"[Cc]hecksum"):
        folder.fetch("x")
    copies = Path(os.environ["XDG_CACHE_HOME"], "gnome-flywheel", "stores")
    assert not [path for path in copies.rglob("*") if path.is_file()]


def test_users_mistakes_name_the_remedy(gcs, folder):
    with pytest.raises(UserError, match="no such bucket"):
        Store.open("gs://nowhere/store")
    with pytest.raises(UserError, match="gs://BUCKET/PATH"):
        Store.open("gs:///store")
    with pytest.raises(UserError, match="gnome init"):
        Store.open("gs://lab/empty")
    gcs.fail("GET", status=403)
    with pytest.raises(UserError, match=r"roles/storage\.objectUser"):
        folder.read("x")
    with pytest.raises(UserError, match="--output"):
        Store("gs://lab/empty").output_path("export.csv")


def test_commits_race_and_one_wins(store, gcs):
    commits = [write_commit(store, [f"row{i}"]) for i in range(8)]
    gcs.fail(f"POST .*{COMMIT}|POST .*uploadType", status=0, times=4, delay=0.2)
    gcs.fail("POST .*uploadType", status=503, times=2, done_first=True)
    with ThreadPoolExecutor(8) as pool:
        winners = list(pool.map(store.publish, commits))
    assert {winner.attempt for winner in winners} == {store.commit(0, "score").attempt}
    assert store.commit(0, "score") in commits
    for stat in store.commit(0, "score").files:
        store.check_file(stat)


def test_committing_asks_for_checksums_and_reads_nothing(store, gcs):
    commit = write_commit(store, ["a", "bb"])
    store.publish(commit)
    assert not gcs.requests(r"alt=media.*parquet|parquet.*alt=media")
    assert store.read_table(commit, "rows", SCHEMA)["id"].to_pylist() == ["a", "bb"]
    name = f"a/store/{commit.files[0].path}"
    store.storage.write(commit.files[0].path, b"other")
    for found in (store.publish, lambda c: store.local_file(c.files[0]), lambda c: store.read_file(c.files[0])):
        with pytest.raises(StoreError, match="changed since"):
            found(commit)
    del gcs.buckets["lab"][name]
    with pytest.raises(StoreError, match="is missing"):
        store.check_file(commit.files[0])


def test_a_round_that_a_listing_does_not_show_yet_is_found(store, gcs):
    gcs.list_the_past()
    store.start_round(1, {"seed": 1})
    store.start_round(2, {"seed": 1})
    assert store.rounds() == [0, 1, 2]


def test_copies_are_made_once_and_damaged_ones_are_refused(store, gcs):
    commit = write_commit(store, ["a"])
    path = Path(store.local_file(commit.files[0]))
    assert path.read_bytes() == store.read_file(commit.files[0])
    n = len(gcs.requests("alt=media"))
    assert store.local_file(commit.files[0]) == str(path)
    assert len(gcs.requests("alt=media")) == n
    path.write_bytes(b"bad")
    with pytest.raises(StoreError, match="delete this copy"):
        store.local_file(commit.files[0])
    for outside in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(StoreError, match="no path"):
            store.storage.fetch(outside)


def test_checkpoints_survive_the_machine(store):
    with training_folder(store.storage, "work", "member-000") as (folder, keep):
        Path(folder, "deep").mkdir()
        Path(folder, "deep", "one").write_bytes(b"1")
        keep()
        Path(folder, "deep", "one").rename(Path(folder, "two"))
        keep()
        Path(folder, "lost").write_bytes(b"3")
    with training_folder(store.storage, "work", "member-000") as (folder, _):
        assert [path.name for path in Path(folder).rglob("*") if path.is_file()] == ["two"]
    with training_folder(store.storage, "work", "member-001") as (folder, _):
        assert os.listdir(folder) == []


@pytest.fixture(scope="module")
def cloud_round(tiny, tmp_path_factory):
    """(double, store root) after round 0 and a first round in a bucket."""
    with FakeGcs("lab") as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        buckets._client.cache_clear()
        config = load_config(str(tiny / "round.toml"))
        store = driver.init_store(
            "gs://lab/tiny", config.model_copy(update={"snapshot": str(tiny / "snapshot.parquet")})
        )
        list(driver.run_stages(store, 0, stages_of(0)))
        fake.fail("POST", status=503, times=2, done_first=True)
        fake.fail("alt=media", status=502, times=2)
        list(driver.run_stages(store, driver.start_round(store, None), stages_of(1)))
        yield fake, store
    buckets._client.cache_clear()


def test_a_round_in_a_bucket_commits_the_rows_of_one_in_a_folder(cloud_round, two_rounds):
    _, store = cloud_round
    expected = {key: value for key, value in digests(Store(str(two_rounds))).items() if key[0] in "01"}
    assert digests(store) == expected
    assert list(verify(store)) == []
    assert store.is_closed(1)
    assert all(address.startswith("gs://lab/tiny/") for address in member_addresses(store, store.commit(1, "train")))


def test_two_drivers_of_one_stage_commit_once(cloud_round, monkeypatch):
    """The second driver finishes the stage while the first is about to commit its own attempt."""
    fake, store = cloud_round
    expected = store.commit(1, "ingest")
    for name in [name for name in fake.buckets["lab"] if name.startswith("tiny/rounds/r0001/ingest/")]:
        del fake.buckets["lab"][name]
    second = []

    def meanwhile(stage: str, point: str) -> None:
        if point == "after_write" and not second:
            second.append(threading.Event())
            second.extend(driver.run_stages(store, 1, ["ingest"]))

    monkeypatch.setattr(driver, "_crash_point", meanwhile)
    events = list(driver.run_stages(store, 1, ["ingest"]))
    committed = store.commit(1, "ingest")
    assert committed.digest == expected.digest
    assert events[-1].commit == second[-1].commit == committed
    assert len(store.storage.children("rounds/r0001/ingest/attempts")) == 2
    (lost,) = [left for left in leftovers(store, timedelta(0)) if "/ingest/" in left.path]
    remove(store, lost)
    assert store.storage.children("rounds/r0001/ingest/attempts") == [committed.attempt]
    assert list(verify(store)) == []


def test_an_open_round_of_a_bucket_is_dropped(cloud_round):
    fake, store = cloud_round
    before = digests(store)
    round_ = driver.start_round(store, None)
    list(driver.run_stages(store, round_, ["generate"]))
    drop_round(store, round_)
    assert Store.open(store.root).rounds() == [0, 1]
    assert not [name for name in fake.buckets["lab"] if name.startswith("tiny/rounds/r0002/")]
    assert digests(store) == before


# Each in turn, on one store: STORE is its address, OUT a folder. With what it says.
COMMANDS = [
    ("round status STORE", "r0001/train"),
    ("round plan STORE", "at most 5 evaluations: 3 chosen, 2 random"),
    ("dead STORE", "no dead rows"),
    ("show STORE", "on the hull"),
    ("top STORE", "on the hull"),
    ("confirm STORE --by pretrained --dry-run", "to evaluate"),
    ("show STORE polymorph-Mg-4", "Mg"),
    ("report STORE", "gs://lab/tiny/report.html"),
    ("report STORE -o OUT/page.html", "OUT/page.html"),
    ("export STORE -o OUT/entries.csv", "entries written to"),
    ("export STORE --format cif -o OUT/cifs", "entries written to"),
    ("export STORE --format parquet -o OUT/entries.parquet", "entries written to"),
    ("analyse STORE growth", "gs://lab/tiny/report.html"),
    ("analyse STORE novelty --against STORE --all", "known"),
    ("analyse STORE novelty --against OUT/entries.parquet --all --export OUT/novelty", "known"),
    ("predict OUT/cifs/polymorph-Mg-4.cif --store STORE -o OUT/predicted.csv", ""),
    ("potential train STORE -o OUT/p.npz --config OUT/p.toml", "frames trained"),
    ("potential test OUT/p.npz STORE", "energy"),
    ("potential label OUT/cifs/polymorph-Mg-4.cif -o gs://lab/labels", "1 of 1 labelled in gs://lab/labels"),
    ("potential test OUT/p.npz gs://lab/labels", "energy"),
    ("verify STORE", "gs://lab/tiny is whole"),
    ("gc STORE --delete --older-than 0", ""),
    ("migrate STORE", "nothing to do"),
    ("verify STORE", "gs://lab/tiny is whole"),
    ("round resume STORE", "nothing to resume: round 1 is finished"),
]


def test_every_command_that_takes_a_store_takes_a_bucket(cloud_round, quickly_compiled, tmp_path, monkeypatch):
    fake, store = cloud_round
    (tmp_path / "p.toml").write_text(POTENTIAL_TOML)
    monkeypatch.setattr("pipelines.beam.environment.prepare", lambda verbose: None)  # it starts the process anew
    wrong = []
    for command, said in COMMANDS:
        words = command.replace("STORE", store.root).replace("OUT", str(tmp_path)).split()
        result = CliRunner().invoke(app, words)
        wanted, found = ("".join(text.split()) for text in (said.replace("OUT", str(tmp_path)), result.output))
        if result.exit_code or wanted not in found:
            wrong.append(f"{command}: {result.exception!r}, {result.output}")
    assert wrong == []
    assert b"<html" in fake.buckets["lab"]["tiny/report.html"].data
    assert 'id="analysis-growth"' in fake.buckets["lab"]["tiny/report.html"].data.decode()
    assert {"growth", "novelty"} == set(kept_analyses(store))
    assert (tmp_path / "predicted.csv").read_text().count("\n") == 2
    assert not any(path.name.startswith("gs:") for path in Path.cwd().iterdir())
    commands = {tuple(command.split()[:2]) for command, _ in COMMANDS}
    commands |= {tuple(line.split()[:1]) for line, _ in COMMANDS} | {("init",), ("round", "run"), ("round", "drop")}
    takes = set(taking_a_store(get_command(app)))
    assert takes - commands - OTHERWISE == set(), "a new one belongs into COMMANDS"


def test_the_live_page_is_of_a_bucket_too(cloud_round):
    fake, store = cloud_round
    before = set(fake.buckets["lab"])
    with served_here(store.root) as address:
        (found, page, _), (asked, state, _) = get(address), get(address + "state")
    assert found == asked == 200
    assert 'id="discoveries"' in page
    assert "Round 1 is finished." in state
    assert set(fake.buckets["lab"]) == before, "it only reads"


# Runs of stages: by the driver in `cloud_round`, dropped in the test above. dft: of stores with engines' jobs
# (tests/pipelines/cli/test_dft_bucket.py, tests/dft/test_standin_round.py).
# serve: goes on until it is stopped; its page is asked for in the test above.
OTHERWISE = {
    ("serve",),
    ("round", "propose"),
    ("round", "learn"),
    ("potential", "screen"),
    ("dft",),
    ("train",),
    ("evaluate",),
}


def taking_a_store(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Words of all commands that have an argument STORE; of groups with one, the group's."""
    for name, command in group.commands.items():
        words = (*before, name)
        if any(p.name == "store" for p in command.params):
            yield words[:1] if words[0] == "dft" else words[:2]
        elif isinstance(command, click.Group):
            yield from taking_a_store(command, words)


def test_what_needs_a_file_system_says_so(cloud_round, tmp_path):
    _, store = cloud_round
    for command in ("export STORE", "potential screen STORE"):
        with pytest.raises(UserError, match="bucket"):
            CliRunner().invoke(app, command.replace("STORE", store.root).split(), catch_exceptions=False)
