"""What is wrong with a store is named, and no stage reads it."""

import json
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dft.jobs.folders import JobFolders
from gnome_core.potentials.default import DEFAULT
from pipelines.cli.show_text import print_entry
from pipelines.errors import StoreError, UserError
from pipelines.reading.schemas import SCORED_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.gc import leftovers, remove
from pipelines.rounds.plan import PROPOSE, stages_of
from pipelines.rounds.verify import migrate, verify
from pipelines.store.records import Attempt, Commit, FileStat
from pipelines.store.seals import sealed
from pipelines.store.store import Store
from tests.pipelines.conftest import digests, gnome, gnome_process


@pytest.fixture
def store(two_rounds, tmp_path) -> Store:
    shutil.copytree(two_rounds, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def committed_files(store: Store) -> list[str]:
    """All that verify answers for: committed files, commits, configs, closings."""
    files = [stat.path for key in keys(store) for stat in store.commit(*key).files]
    documents = [path for path in store.storage.files("rounds") if path.endswith(("COMMIT.json", "ROUND.json"))]
    return sorted([*files, *documents, *(f"rounds/r{round_:04d}/config.json" for round_ in store.rounds())])


def keys(store: Store) -> list[tuple[int, str]]:
    return [(round_, stage) for round_ in store.rounds() for stage in stages_of(round_)]


def complaints(store: Store) -> dict[str, str]:
    return {complaint.path: complaint.what for complaint in verify(store)}


def run(store: Store, round_: int, stage: str) -> None:
    """Run a stage of a round whose commits from that stage on are taken away."""
    for later in stages_of(round_)[stages_of(round_).index(stage) :]:
        shutil.rmtree(Path(store.root, f"rounds/r{round_:04d}/{later}"), ignore_errors=True)
    for path in (f"rounds/r{round_ + 1:04d}", f"rounds/r{round_:04d}/ROUND.json"):
        target = Path(store.root, path)
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    list(driver.run_stages(store, round_, [stage]))


def test_a_whole_store_has_no_complaints(store):
    assert complaints(store) == {}
    assert gnome("verify", store.root).returncode == 0


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_every_damage_to_every_file_is_named(store, data):
    """Random bytes, a flipped bit, truncation, deletion, bytes appended: of any file that a stage has written."""
    path = data.draw(st.sampled_from(committed_files(store)))
    target = Path(store.root, path)
    good = target.read_bytes()
    how = data.draw(st.sampled_from(["bit", "truncate", "delete", "append", "random"]))
    # Without its closing the newest round is as it is before it is closed: `resume` closes it.
    assume((how, path) != ("delete", f"rounds/r{store.rounds()[-1]:04d}/ROUND.json"))
    position = data.draw(st.integers(0, len(good) - 1))
    noise = random.Random(position).randbytes(1 + position % 64)
    if how == "delete":
        target.unlink()
    else:
        bad = {
            "bit": good[:position] + bytes([good[position] ^ (1 << position % 8)]) + good[position + 1 :],
            "truncate": good[:position],
            "append": good + noise,
            "random": good[:position] + noise + good[position + len(noise) :],
        }[how]
        target.write_bytes(bad)
    try:
        if target.exists() and same_meaning(path, good, target.read_bytes()):
            return
        found = complaints(store)
        # A lost commit makes its attempt a lost one, and the commits that were made of it say so.
        assert path in found, (how, found)
    finally:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(good)


def same_meaning(path: str, good: bytes, bad: bytes) -> bool:
    """Whether a JSON file still says the same: spaces were changed."""
    if not path.endswith(".json") or "/attempts/" in path:
        return good == bad
    try:
        return json.loads(good) == json.loads(bad)
    except ValueError:
        return False


def test_an_edited_commit_is_named_and_no_stage_reads_it(store):
    path = "rounds/r0001/score/COMMIT.json"
    target = Path(store.root, path)
    document = json.loads(target.read_text())
    document["counts"]["in"] += 1
    document["counts"]["out"] += 1
    target.write_text(json.dumps(document))
    assert "has been changed" in complaints(store)[path]
    with pytest.raises(StoreError, match="has been changed"):
        run(store, 1, "select")
    document["counts"]["in"] -= 1
    document["counts"]["out"] -= 1
    document["files"][0]["path"] = "../../outside.parquet"
    document = {key: value for key, value in document.items() if key != "seal"}
    target.write_bytes(sealed(document))
    assert "leads out of the store" in complaints(store)[path]
    with pytest.raises(StoreError, match="leads out of the store"):
        store.commit(1, "score")


@pytest.mark.parametrize("how", ["truncated", "deleted", "other rows"])
def test_no_stage_reads_a_damaged_table(store, how):
    stat = next(stat for stat in store.commit(1, "score").files if stat.table == "scored")
    target = Path(store.root, stat.path)
    if how == "truncated":
        target.write_bytes(target.read_bytes()[:-100])
    elif how == "deleted":
        target.unlink()
    else:  # a valid table with a row less
        rows = store.read_table(store.commit(1, "score"), "scored", SCORED_SCHEMA)
        Store(store.root).write_table(stat.path, "scored", rows.slice(1))
    assert stat.path in complaints(store)
    with pytest.raises(Exception, match=r"is missing|has changed since it was committed"):
        run(store, 1, "select")
    assert store.commit(1, "select") is None


def test_lineage_and_closing_are_checked(store, two_rounds):
    # A commit that is whole in itself, but not the one that later stages read.
    other = store.commit(1, "generate").model_copy(update={"seconds": 0.0, "rows_digests": {}, "files": []})
    path = Path(store.root, "rounds/r0001/generate/COMMIT.json")
    path.write_bytes(sealed(other.model_dump(mode="json", by_alias=True)))
    found = complaints(store)
    assert found["rounds/r0001/score/COMMIT.json"] == "was made of another r0001/generate than is there now"
    assert "closed with another r0001/generate" in found["rounds/r0001/ROUND.json"]
    shutil.copy(Path(two_rounds, "rounds/r0002/generate/COMMIT.json"), path)
    assert "is the commit of r0002/generate" in complaints(store)["rounds/r0001/generate/COMMIT.json"]
    shutil.rmtree(Path(store.root, "rounds/r0001"))
    assert complaints(store)["rounds/r0001"] == "is missing; later rounds are there"


def test_foreign_files_are_named_wherever_they_lie(store):
    attempt = Attempt(1, "score", store.commit(1, "score").attempt)
    foreign = [
        "rounds/notes.txt",
        "rounds/r0001/notes.txt",
        "rounds/r0001/score/part-9.parquet",
        "rounds/r0001/score/attempts/notes.txt",
        f"{attempt.path}/scored/part-00099-of-00002.parquet",
        "rounds/r0001/embezzle/COMMIT.json",
    ]
    for path in foreign:
        store.storage.write(path, b"x")
    assert sorted(complaints(store)) == sorted(foreign)
    shown = gnome("verify", store.root)
    assert shown.returncode == 1
    assert all(path in shown.stdout for path in foreign)


def test_gc_removes_what_was_lost_and_nothing_else(store):
    expected = digests(store)
    job = driver.JobFile(stage="score", inputs={}, config="", code="")
    lost = store.new_attempt(1, "score", job)
    store.storage.write(f"{lost.path}/scored/part-0.parquet", b"half")
    store.storage.write("rounds/r0001/score/.COMMIT.json.0123.tmp", b"half")
    now, day = timedelta(0), timedelta(days=1)
    assert not [left for left in leftovers(store, day) if left.path == lost.path], "it may be running"
    found = {left.path: left for left in leftovers(store, now)}
    checkpoints = {path for path in found if path.endswith("train/checkpoints")}
    assert found.keys() - checkpoints == {lost.path, "rounds/r0001/score/.COMMIT.json.0123.tmp"}
    listed = gnome("gc", store.root, "--older-than", "0")
    assert lost.path in listed.stdout
    assert store.storage.exists(f"{lost.path}/JOB.json"), "nothing is removed without --delete"
    for left in found.values():
        remove(store, left)
    assert list(leftovers(store, now)) == []
    assert not Path(store.root, lost.path).exists()
    assert complaints(store) == {}
    assert digests(store) == expected


def test_an_older_store_says_so_and_is_migrated(store):
    expected = digests(store)
    for path in committed_files(store):
        if path.endswith(("COMMIT.json", "ROUND.json")):
            document = json.loads(store.storage.read(path)) | {"format": 1}
            del document["seal"]
            store.storage.write(path, json.dumps(document).encode())
    with pytest.raises(StoreError, match=f"gnome migrate {store.root}"):
        store.commit(0, "hull")
    assert len(migrate(store)) == len(keys(store)) + len(store.rounds())
    assert migrate(store) == []
    assert complaints(store) == {}
    assert digests(store) == expected


def test_a_newer_store_is_refused(store):
    path = Path(store.root, "rounds/r0000/hull/COMMIT.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(StoreError, match="format 99, this version reads up to 2; install a newer version"):
        store.commit(0, "hull")


def test_a_half_written_attempt_is_not_adopted(store):
    commit = store.commit(1, "emit")
    done = Path(store.root, Attempt(1, "emit", commit.attempt).path, "DONE.json")
    done.write_bytes(done.read_bytes()[:-20])
    Path(store.root, "rounds/r0001/emit/COMMIT.json").unlink()
    list(driver.run_stages(store, 1, ["emit"]))
    again = store.commit(1, "emit")
    assert again.digest == commit.digest
    assert again.attempt != commit.attempt


@pytest.mark.parametrize("kind", ["results.parquet", "frames.parquet", "json"])
@pytest.mark.parametrize("part", [0.0, 0.33, 0.99])
def test_a_damaged_batch_of_results_is_evaluated_again(kind, part, store):
    before = store.commit(1, "evaluate")
    asked = set(store.read_table(store.commit(1, "emit"), "jobs", pa.schema([("id", pa.string())]))["id"].to_pylist())
    results = sorted(Path(store.root, "jobs", DEFAULT).glob("*.results.parquet"))
    of_round = next(path for path in results if asked.issuperset(pq.read_table(path)["id"].to_pylist()))
    batch = of_round.with_name(of_round.name.replace("results.parquet", kind))
    good = batch.read_bytes()
    middle = int(part * len(good))
    batch.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    assert [complaint.path for complaint in verify(store)] == [batch.relative_to(store.root).as_posix()]
    for path in ("rounds/r0001/ROUND.json", "rounds/r0001/evaluate/COMMIT.json"):
        Path(store.root, path).unlink()
    shutil.rmtree(Path(store.root, "rounds/r0001/evaluate"))
    list(driver.run_stages(store, 1, ["evaluate"]))
    assert store.commit(1, "evaluate").digest == before.digest
    assert batch.read_bytes() == good


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "a//b", "a\\b", "", "a/./b", "a\0b"])
def test_paths_cannot_leave_the_store(path):
    with pytest.raises(ValidationError):
        FileStat(table="t", path=path, rows=0, bytes=0, crc32c="0")
    with pytest.raises(ValidationError):
        FileStat(table=path, path="a", rows=0, bytes=0, crc32c="0")


@pytest.mark.parametrize("id_", ["../../x", "/etc", "a/b", "..", ".hidden", "", "a\0b"])
def test_ids_cannot_leave_their_folder(id_, tmp_path, store):
    with pytest.raises(ValueError, match="is not a job id"):
        JobFolders(tmp_path)[id_]
    document = store.commit(1, "emit").model_dump(mode="json", by_alias=True)
    with pytest.raises(ValidationError):
        Commit.model_validate(document | {"attempt": id_})
    with pytest.raises(UserError):
        print_entry(store, id_ or "no-such-id")


def test_status_shows_a_running_attempt(store):
    from rich.console import Console

    from pipelines.beam.progress import Progress
    from pipelines.cli.documents import status_document
    from pipelines.cli.status_text import watched

    round_ = driver.start_round(store, None)
    attempt = store.new_attempt(round_, "generate", driver.JobFile(stage="generate", inputs={}, config="", code=""))
    store.storage.write(f"{attempt.path}/candidates/part-0.parquet", b"x" * 1234)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(watched(store))
    lines = {line.split()[1]: line for line in capture.get().splitlines() if line.startswith("│")}
    assert "attempt 1" in lines["generate"]
    written = int(lines["generate"].replace(",", "").split()[-2])
    assert written > 1234
    assert "to run" in lines["score"]
    store.keep_progress(attempt, Progress(30, 120, "shards", 60.0)._asdict())
    with console.capture() as capture:
        console.print(watched(store))
    assert "30 of 120 shards (25 %), about 0:03:00 left" in capture.get()
    (stage,) = [one for one in status_document(store)["rounds"][-1]["stages"] if one["stage"] == "generate"]
    assert stage["progress"] == {
        "done": 30,
        "total": 120,
        "unit": "shards",
        "seconds": 60.0,
        "share": 0.25,
        "seconds_left": 180.0,
    }
    assert list(verify(store)) == []


def test_logs_are_json_lines_without_secrets(store, tmp_path):
    log = tmp_path / "log.jsonl"
    round_ = driver.start_round(store, None)
    secret = {"MY_API_KEY": "hunter2-hunter2", "GNOME_CRASH_AT": ""}
    result = gnome_process("--log-json", str(log), "round", "propose", store.root, **secret)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    committed = {line["stage"]: line for line in lines if line["message"] == "committed"}
    assert list(committed) == [f"r{round_:04d}/{stage}" for stage in PROPOSE]
    for line in committed.values():
        assert line["in"] == line["out"] + sum(line["rejected"].values()) + sum(line["dead"].values())
        assert line["bytes"] > 0
        assert line["seconds"] > 0
    assert committed[f"r{round_:04d}/score"]["metrics"]["evaluations"] > 0
    assert "hunter2" not in log.read_text()


def test_a_secret_in_a_message_is_struck_out(monkeypatch):
    import logging

    from pipelines.logs import JsonLines

    monkeypatch.setenv("MP_API_KEY", 'abc"def123')
    record = logging.LogRecord("x", logging.ERROR, "", 0, "key %s refused", ('abc"def123',), None)
    assert json.loads(JsonLines().format(record))["message"] == "key *** refused"
