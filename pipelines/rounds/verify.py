"""`gnome verify`: everything in a store that is not as its stages left it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from dft.names import ENGINES
from gnome_core.files import is_temporary
from pipelines.errors import StoreError, UserError
from pipelines.reading.analyses import kept_analyses, load_analysis
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.reading.finished import finished_batch, finished_batches
from pipelines.rounds.config import RoundConfig
from pipelines.rounds.plan import inputs_of, stages_of
from pipelines.rounds.toml import parse_settings
from pipelines.store.digests import json_digest
from pipelines.store.records import Commit, FileStat, stage_key, table_digests
from pipelines.store.seals import FORMAT, json_document, sealed, unsealed
from pipelines.store.store import DONE, JOB, LAUNCHED, MANIFEST, PROGRESS, Store

ATTEMPT_FILES = {JOB, MANIFEST, DONE, LAUNCHED, PROGRESS, "known_compositions"}
ROUND_FILES = {"config.json", "ROUND.json"}


class Complaint(NamedTuple):
    """What is wrong, and with which file (store-relative)."""

    path: str
    what: str


def verify(store: Store) -> Iterator[Complaint]:
    """Every damage: files missing, changed or foreign, counts that do not add up, lineage that does not hold.

    Reads all committed data once. What attempts that never committed have left is no damage (`gnome gc` removes it).
    """
    store = Store(store.root, keep=False)  # what is there now, not what this process has read
    rounds = sorted(name for name in store.storage.children("rounds") if _round_of(name) is not None)
    for name in rounds:
        yield from _verify_round(store, name)
    numbers = [number for name in rounds if (number := _round_of(name)) is not None]
    for missing in sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers)):
        yield Complaint(f"rounds/r{missing:04d}", "is missing; later rounds are there")
    for name in store.storage.children("rounds"):
        if name not in rounds:
            yield Complaint(f"rounds/{name}", "is foreign: no round of that name")
    for name in kept_analyses(store):
        try:
            load_analysis(store, name)
        except StoreError as error:
            yield Complaint(*_place(store, error))
    for evaluator, batch in finished_batches(store):
        try:
            finished_batch(store, evaluator, batch)
        except StoreError as error:
            yield Complaint(*_place(store, error))
    if store.in_bucket:
        for engine in ENGINES:
            yield from _verify_jobs(store, BucketJobs(store, engine))


def _verify_jobs(store: Store, jobs: BucketJobs) -> Iterator[Complaint]:
    """Shards and results of first-principles jobs are what they were listed as; a bucket is asked, not read."""
    try:
        listed = jobs.listed()
    except StoreError as error:
        yield Complaint(*_place(store, error))
        return
    for stat in listed.values():
        try:
            store.check_file(stat)
        except StoreError as error:
            yield Complaint(stat.path, _short(error))


def _round_of(name: str) -> int | None:
    return int(name[1:]) if len(name) == 5 and name[0] == "r" and name[1:].isdigit() else None


def _verify_round(store: Store, name: str) -> Iterator[Complaint]:
    folder, round_ = f"rounds/{name}", _round_of(name)
    assert round_ is not None
    config = None
    try:
        document = store.round_config(round_)
        config = json_digest(document)
        parse_settings(RoundConfig, document, f"{store.root}/{folder}/config.json")
    except FileNotFoundError:
        if not store.storage.files(folder):
            return  # folders are nothing of their own: a start that was killed, or a drop, may leave them
        yield Complaint(f"{folder}/config.json", "is missing")
    except (StoreError, UserError) as error:
        yield Complaint(f"{folder}/config.json", _short(error))
    commits: dict[str, Commit] = {}
    for stage in stages_of(round_):
        try:
            commit = store.commit(round_, stage)
        except StoreError as error:
            yield Complaint(f"{folder}/{stage}/COMMIT.json", _short(error))
            continue
        if commit is None:
            continue
        commits[stage] = commit
        yield from _verify_commit(store, commit, config)
    yield from _verify_closing(store, round_, commits)
    yield from _foreign(store, round_, commits)


def _verify_commit(store: Store, commit: Commit, config: str | None) -> Iterator[Complaint]:
    where = f"rounds/{commit.key}/COMMIT.json"
    try:
        commit.counts.check(commit.key)
    except StoreError as error:
        yield Complaint(where, str(error))
    if table_digests(commit.files) != commit.rows_digests:
        yield Complaint(where, "its tables' digests are not those of its files")
    if config is not None and commit.config != config:
        yield Complaint(f"rounds/r{commit.round:04d}/config.json", f"is not what {commit.key} was run with")
    yield from _verify_lineage(store, commit)
    for stat in commit.files:
        try:
            data = store.read_file(stat)
        except StoreError as error:
            yield Complaint(stat.path, _short(error))
            continue
        if stat.path.endswith(".parquet") and (n := _rows(data)) != stat.rows:
            yield Complaint(stat.path, f"holds {n} rows, {stat.rows} committed")


def _rows(data: bytes) -> int | None:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows
    except (pa.ArrowInvalid, OSError):
        return None


def _verify_lineage(store: Store, commit: Commit) -> Iterator[Complaint]:
    """A stage was made of the commits that are there now, and of all that it reads."""
    where = f"rounds/{commit.key}/COMMIT.json"
    expected = {stage_key(*key): key for key in inputs_of(commit.round, commit.stage)}
    for missing in sorted(expected.keys() - commit.inputs.keys()):
        yield Complaint(where, f"does not say which {missing} it was made of")
    for name, digest in sorted(commit.inputs.items()):
        if name not in expected:
            yield Complaint(where, f"was made of {name}, which {commit.stage} does not read")
            continue
        try:
            read = store.commit(*expected[name])
        except StoreError:
            continue  # complained of where it lies
        if read is None:
            yield Complaint(f"rounds/{name}/COMMIT.json", f"is missing; {commit.key} was made of it")
        elif read.digest != digest:
            yield Complaint(where, f"was made of another {name} than is there now")


def _verify_closing(store: Store, round_: int, commits: dict[str, Commit]) -> Iterator[Complaint]:
    path = f"rounds/r{round_:04d}/ROUND.json"
    try:
        document = unsealed(store.storage.read(path), f"{store.root}/{path}", store.root)
    except FileNotFoundError:
        if _round_folder(store, round_ + 1):
            yield Complaint(path, "is missing; a later round is there")
        return
    except StoreError as error:
        yield Complaint(path, _short(error))
        return
    if document.get("round") != round_:
        yield Complaint(path, f"is that of round {document.get('round')}")
    for stage, digest in document.get("stages", {}).items():
        key = stage_key(round_, stage)
        if stage not in commits:
            if not store.storage.exists(f"rounds/{key}/COMMIT.json"):
                yield Complaint(f"rounds/{key}/COMMIT.json", "is missing; the round was closed with it")
        elif commits[stage].digest != digest:
            yield Complaint(path, f"was closed with another {key} than is there now")


def _round_folder(store: Store, round_: int) -> bool:
    return bool(store.storage.children(f"rounds/r{round_:04d}"))


def _foreign(store: Store, round_: int, commits: dict[str, Commit]) -> Iterator[Complaint]:
    """Files that no stage wrote. Below attempts that are not committed anything may lie."""
    folder = f"rounds/r{round_:04d}"
    listed = {stat.path for commit in commits.values() for stat in commit.files}
    for path in store.storage.files(folder):
        parts = path.removeprefix(f"{folder}/").split("/")
        if path not in listed and not is_temporary(parts[-1]) and not _is_ours(parts, stages_of(round_), commits):
            yield Complaint(path, "is foreign: no commit lists it, and no stage reads it")


def _is_ours(parts: Sequence[str], stages: Sequence[str], commits: dict[str, Commit]) -> bool:
    match parts:
        case [name]:
            return name in ROUND_FILES
        case [stage, "COMMIT.json"]:
            return stage in stages
        case [stage, "attempts", attempt, name, *below] if stage in stages:
            committed = stage in commits and commits[stage].attempt == attempt
            return not committed or (name in ATTEMPT_FILES and not below)
        case ["train", "checkpoints", *_]:
            return True
        case _:
            return False


def _place(store: Store, error: StoreError) -> tuple[str, str]:
    """The file that the message begins with (store-relative), and the rest."""
    path, _, what = str(error).partition(" ")
    return path.removeprefix(f"{store.root}/"), what


def _short(error: Exception) -> str:
    """The message without the path, which the complaint names."""
    text = str(error)
    return text.split(" ", 1)[1] if "/" in text.split(" ", 1)[0] else text


# Older stores


def migrate(store: Store) -> list[str]:
    """Bring a store of the last format to this one and return the files that were changed. May be run again at will.

    Raises StoreError for data that its commit does not describe: only what is whole gets a seal.
    """
    store, changed = Store(store.root, keep=False), []
    for round_ in store.rounds():
        paths = [f"rounds/{stage_key(round_, stage)}/COMMIT.json" for stage in stages_of(round_)]
        for path in (*paths, f"rounds/r{round_:04d}/ROUND.json"):
            if not store.storage.exists(path):
                continue
            document = json_document(store.storage.read(path), f"{store.root}/{path}")
            if document.pop("format", None) != FORMAT - 1:
                unsealed(store.storage.read(path), f"{store.root}/{path}", store.root)
                continue
            for stat in document.get("files", ()):
                store.read_file(FileStat.model_validate(stat))
            store.storage.write(path, sealed(document))
            changed.append(path)
    return changed
