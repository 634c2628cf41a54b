"""`gnome gc`: what attempts that never committed, and workers that were killed, have left in a store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dft.names import ENGINES
from gnome_core.files import is_temporary
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.rounds.plan import stages_of
from pipelines.store.records import Attempt
from pipelines.store.store import DONE, LAUNCHED, STAMP, Store


class Leftover(NamedTuple):
    """Files that no stage will read again."""

    path: str  # the folder or file, store-relative
    what: str
    files: dict[str, int]  # path -> bytes


def leftovers(store: Store, older_than: timedelta) -> Iterator[Leftover]:
    """What may be removed: attempts that were begun so long ago and lost, checkpoints of committed members, temporary
    files of closed rounds, a bucket's shards of jobs that were never listed. A finished or launched attempt at a stage
    that is not committed stays for `resume`."""
    before = datetime.now(UTC) - older_than
    yield from _unlisted_shards(store, before)
    for round_ in store.rounds():
        for stage in stages_of(round_):
            yield from _lost_attempts(store, round_, stage, before)
        checkpoints = f"rounds/r{round_:04d}/train/checkpoints"
        if store.commit(round_, "train") and (files := store.storage.files(checkpoints)):
            yield Leftover(checkpoints, "checkpoints of members that are committed", files)
        if store.is_closed(round_):
            for path, size in store.storage.files(f"rounds/r{round_:04d}").items():
                if is_temporary(path.rpartition("/")[2]) and "/attempts/" not in path:
                    yield Leftover(path, "a file that was never finished", {path: size})


def _lost_attempts(store: Store, round_: int, stage: str, before: datetime) -> Iterator[Leftover]:
    for id_ in store.storage.children(f"rounds/r{round_:04d}/{stage}/attempts"):
        attempt = Attempt(round_, stage, id_)
        if begun(attempt) < before and not _is_kept(store, attempt):
            yield Leftover(attempt.path, "an attempt that was not committed", store.storage.files(attempt.path))


def _unlisted_shards(store: Store, before: datetime) -> Iterator[Leftover]:
    if not store.in_bucket:
        return
    for engine in ENGINES:
        jobs = BucketJobs(store, engine)
        found = store.storage.files(jobs.path)
        for path in found.keys() - jobs.listed().keys():
            if path.endswith(".tar") and _stamped(path.rpartition("/")[2]) < before:
                yield Leftover(path, "a shard of jobs whose writer was killed", {path: found[path]})


def begun(attempt: Attempt) -> datetime:
    """When an attempt began, from its id; an id of another form counts as begun just now."""
    return _stamped(attempt.id)


def _stamped(name: str) -> datetime:
    try:
        return datetime.strptime(name.partition("-")[0], STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.now(UTC)


def remove(store: Store, leftover: Leftover) -> bool:
    """Remove its files; False if it became, before the last of them, what a stage reads: the rest of them stay."""
    for path in leftover.files:
        attempt = _attempt_of(path)
        if attempt and _is_kept(store, attempt):
            return False
        store.storage.delete(path)
    return True


def _attempt_of(path: str) -> Attempt | None:
    match path.split("/"):
        case ["rounds", round_, stage, "attempts", id_, *_]:
            return Attempt(int(round_[1:]), stage, id_)
    return None


def _is_kept(store: Store, attempt: Attempt) -> bool:
    """Whether a stage is made of the attempt's files, or may yet be."""
    commit = store.commit(attempt.round, attempt.stage)
    if commit is not None:
        return commit.attempt == attempt.id
    return any(store.storage.exists(f"{attempt.path}/{name}") for name in (DONE, LAUNCHED))
