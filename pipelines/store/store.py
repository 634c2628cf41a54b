"""The round store: what a stage wrote exists only once its COMMIT.json does.

ROOT/rounds/r0007/config.json                  once per round
ROOT/rounds/r0007/<stage>/attempts/<id>/...    a job writes only here
ROOT/rounds/r0007/<stage>/COMMIT.json          create-if-absent; lists the attempt's files
ROOT/rounds/r0007/ROUND.json                   last
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipelines.errors import StoreError, UserError
from pipelines.store.digests import json_digest, rows_digest
from pipelines.store.kept import DOCUMENTS, FILES, Kept
from pipelines.store.records import Attempt, Commit, FileStat, JobFile, Manifest, stage_path, table_files
from pipelines.store.seals import json_document, sealed, unsealed
from pipelines.store.storage import LocalFolder, is_local, storage_for

ROW_GROUP = 2_000  # rows of a row group, which is also the batch that stages work on
STAMP = "%Y%m%dT%H%M%S.%f"  # begins an attempt's id
# Of an attempt: what is asked; what the job's last step writes; what its driver writes then; that it has none.
JOB, MANIFEST, DONE, LAUNCHED = "JOB.json", "MANIFEST.json", "DONE.json", "LAUNCHED.json"
PROGRESS = "PROGRESS.json"  # how far it is, for people
RESTORE = "restore it from a copy"

T = TypeVar("T")


class Store:
    """A flywheel's data. Cheap to construct and to pickle; holds no open files.

    Commits, configs and committed files are read once a process (`kept.py`), unless `keep` is false: then every read
    is of the bytes that are there now.
    """

    def __init__(self, root: str, keep: bool = True):
        self.root = root.rstrip("/") or root
        self.storage = storage_for(root)
        self.keep = keep

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    @classmethod
    def open(cls, root: str, damaged: bool = False) -> Store:
        """Raises UserError where `root` holds no store, StoreError where a closed round lacks a commit.

        damaged: open that too, for what looks for damage.
        """
        store = cls(root)
        if not store.rounds():
            raise UserError(f"{root} is not a store; make one with `gnome init {root}`")
        if not damaged:
            store._check_closed_rounds()
        return store

    def _check_closed_rounds(self) -> None:
        there = self.storage.files("rounds")  # one listing, instead of a question for every file
        for path in there:
            if path.endswith("/ROUND.json") and path.count("/") == 2:
                document = unsealed(self.storage.read(path), f"{self.root}/{path}", self.root)
                for stage in document["stages"]:
                    commit = f"{path.removesuffix('ROUND.json')}{stage}/COMMIT.json"
                    if commit not in there and not self.storage.exists(commit):
                        raise StoreError(
                            f"{self.root}/{commit} is missing, with which the round was closed; restore it from a copy"
                        )

    @property
    def in_bucket(self) -> bool:
        return not is_local(self.root)

    def output_path(self, name: str) -> Path:
        """Where a command writes `name` if it is not told: into the store's folder. Raises UserError for a bucket."""
        if self.in_bucket:
            raise UserError(f"{self.root} is in a bucket; say where to with --output")
        return Path(self.root, name)

    # rounds

    def rounds(self) -> list[int]:
        """Rounds that were started, ascending."""
        names = [n for n in self.storage.children("rounds") if n.startswith("r") and n[1:].isdigit()]
        newest = max((int(n[1:]) for n in names), default=-1)
        while self._is_started(newest + 1):  # a listing may be older than the round
            newest += 1
        return [round_ for round_ in range(newest + 1) if self._is_started(round_)]

    def _is_started(self, round_: int) -> bool:
        return self.storage.exists(f"rounds/r{round_:04d}/config.json")

    def start_round(self, round_: int, config: dict) -> str:
        """Fix the round's config and return its digest. Raises UserError if it was started with another."""
        self.storage.create(f"rounds/r{round_:04d}/config.json", _json_bytes(config))
        kept = self.round_config(round_)
        if kept != json.loads(_json_bytes(config)):
            keys = ", ".join(_changed_keys(kept, config))
            raise UserError(
                f"round {round_} was started with another configuration ({keys}); `gnome round resume {self.root}` "
                f"goes on with that one, `gnome round drop {self.root}` gives the round up"
            )
        return json_digest(kept)

    def restart_round(self, round_: int, config: dict) -> None:
        """Give a round of which nothing is committed another config."""
        self.storage.write(f"rounds/r{round_:04d}/config.json", _json_bytes(config))

    def round_config(self, round_: int) -> dict:
        path = f"rounds/r{round_:04d}/config.json"
        data = self._once(DOCUMENTS, path, lambda: self.storage.read(path))
        return json_document(data, f"{self.root}/{path}")

    def close_round(self, round_: int, commits: Iterable[Commit]) -> None:
        """Write ROUND.json, the round's last file."""
        document = {"round": round_, "stages": {c.stage: c.digest for c in commits}}
        self.storage.create(f"rounds/r{round_:04d}/ROUND.json", sealed(document))

    def is_closed(self, round_: int) -> bool:
        return self.storage.exists(f"rounds/r{round_:04d}/ROUND.json")

    # attempts

    def new_attempt(self, round_: int, stage: str, job: JobFile) -> Attempt:
        """A fresh attempt with its JOB.json."""
        stamp = datetime.now(UTC).strftime(STAMP)
        attempt = Attempt(round_, stage, f"{stamp}-{secrets.token_hex(3)}")
        self.storage.create(f"{attempt.path}/{JOB}", job.model_dump_json(indent=1).encode())
        return attempt

    def finish_attempt(self, attempt: Attempt, manifest: Manifest, seconds: float) -> None:
        document = {"seconds": seconds, "manifest": manifest.model_dump(mode="json", by_alias=True)}
        self.storage.write(f"{attempt.path}/{DONE}", sealed(document))

    def mark_launched(self, attempt: Attempt) -> None:
        """Say that the attempt's job runs without its driver, so that a later driver may take its manifest."""
        self.storage.write(f"{attempt.path}/{LAUNCHED}", b"{}\n")

    def keep_progress(self, attempt: Attempt, document: dict) -> None:
        """Say how far an attempt is, for whoever looks at the store; nothing depends on it."""
        self.storage.write(f"{attempt.path}/{PROGRESS}", _json_bytes(document))

    def progress(self, attempt: Attempt) -> dict | None:
        """What `keep_progress` was last told; None where it said nothing that can be read."""
        try:
            return json_document(self.storage.read(f"{attempt.path}/{PROGRESS}"), PROGRESS)
        except (FileNotFoundError, StoreError):
            return None

    def launched_attempt(self, round_: int, stage: str, job: JobFile) -> Attempt | None:
        """The newest launched attempt at exactly this job whose job has written its manifest, and whole files."""
        for attempt in self._attempts(round_, stage, job):
            if all(self.storage.exists(f"{attempt.path}/{name}") for name in (LAUNCHED, MANIFEST)):
                try:
                    manifest = Manifest.model_validate_json(self.storage.read(f"{attempt.path}/{MANIFEST}"))
                except ValidationError:
                    continue
                if self._is_whole(manifest):
                    return attempt
        return None

    def _is_whole(self, manifest: Manifest) -> bool:
        """Whether all files are as the job says it wrote them, and its counts add up."""
        try:
            manifest.counts.check("")
            for stat in manifest.files:
                self.check_file(stat)
        except StoreError:
            return False
        return True

    def _attempts(self, round_: int, stage: str, job: JobFile) -> Iterator[Attempt]:
        """Attempts at exactly this job, newest first."""
        for name in reversed(self.storage.children(f"{stage_path(round_, stage)}/attempts")):
            attempt = Attempt(round_, stage, name)
            try:
                kept = json_document(self.storage.read(f"{attempt.path}/{JOB}"), JOB)
            except (StoreError, FileNotFoundError):
                continue
            if kept == job.model_dump(mode="json"):
                yield attempt

    def finished_attempt(self, round_: int, stage: str, job: JobFile) -> tuple[Attempt, Manifest, float] | None:
        """The newest attempt at exactly this job that finished without being committed, if its files are whole."""
        for attempt in self._attempts(round_, stage, job):
            if self.storage.exists(f"{attempt.path}/{DONE}"):
                try:
                    document = unsealed(self.storage.read(f"{attempt.path}/{DONE}"), DONE, self.root)
                except StoreError:
                    continue  # what it did is not known for sure: it is done again
                manifest = Manifest.model_validate(document["manifest"])
                if self._is_whole(manifest):
                    return attempt, manifest, document["seconds"]
        return None

    # commits

    def commit(self, round_: int, stage: str) -> Commit | None:
        """None where the stage does not exist. Raises StoreError unless the commit is as it was written."""
        path = f"{stage_path(round_, stage)}/COMMIT.json"
        try:
            return self._once(DOCUMENTS, path, lambda: self._read_commit(path, round_, stage))
        except FileNotFoundError:
            return None

    def _read_commit(self, path: str, round_: int, stage: str) -> Commit:
        data, where = self.storage.read(path), f"{self.root}/{path}"
        try:
            commit = Commit.model_validate(unsealed(data, where, self.root))
        except ValidationError as error:
            raise StoreError(f"{where} is damaged: {error.errors()[0]['msg']}; restore it from a copy") from None
        if (commit.round, commit.stage) != (round_, stage):
            raise StoreError(f"{where} is the commit of {commit.key}; restore it from a copy")
        return commit

    def publish(self, commit: Commit) -> Commit:
        """Make the stage exist and return its commit: ours, or that of whoever was first.

        Raises StoreError, committing nothing, if the counts do not add up or a file is not what the job said.
        """
        commit.counts.check(commit.key)
        for stat in commit.files:
            self.check_file(stat)
        path = f"{stage_path(commit.round, commit.stage)}/COMMIT.json"
        self.storage.create(path, sealed(commit.model_dump(mode="json", by_alias=True)))
        winner = self.commit(commit.round, commit.stage)
        assert winner is not None
        return winner

    # files

    def write_table(self, path: str, table: str, rows: pa.Table, row_group: int = ROW_GROUP) -> FileStat:
        """Write Parquet (row groups of so many rows) and say what was written."""
        sink = io.BytesIO()
        pq.write_table(rows, sink, row_group_size=row_group, compression="zstd")
        return self._write(path, table, sink.getvalue(), len(rows), rows_digest(rows))

    def write_blob(self, path: str, table: str, data: bytes) -> FileStat:
        """Write a file that is no table (model weights)."""
        return self._write(path, table, data, 0, 0)

    def _write(self, path: str, table: str, data: bytes, rows: int, digest: int) -> FileStat:
        self.storage.write(path, data)
        crc = f"{google_crc32c.value(data):08x}"
        return FileStat(table=table, path=path, rows=rows, bytes=len(data), crc32c=crc, rows_digest=f"{digest:032x}")

    def read_file(self, stat: FileStat) -> bytes:
        """A committed file's bytes. Raises StoreError unless they are the committed ones."""
        try:
            return self._once(
                FILES, stat.path, lambda: self._read_file(stat), committed=(stat.bytes, stat.crc32c), size=stat.bytes
            )
        except FileNotFoundError:
            raise self._missing(stat) from None

    def _read_file(self, stat: FileStat) -> bytes:
        data = self.storage.read(stat.path)
        self._compare(stat, f"{self.root}/{stat.path}", len(data), f"{google_crc32c.value(data):08x}")
        return data

    def _once(self, kept: Kept, path: str, read: Callable[[], T], *, committed: Hashable = None, size: int = 0) -> T:
        """What `read` makes of a file, from when this process last read it if it is the same file still.

        committed: what `read` compares it with. Raises FileNotFoundError, and what `read` does; neither is kept.
        """
        if not self.keep:
            return read()
        address, version = self.storage.address(path), (self.storage.version(path), committed)
        value = kept.get(address, version)
        if value is None:
            value = read()
            kept.put(address, version, value, size)
        return value

    def check_file(self, stat: FileStat) -> None:
        """Raise StoreError unless the stored bytes are the committed ones; a bucket is asked, not read."""
        try:
            size, crc = self.storage.checksum(stat.path)
        except FileNotFoundError:
            raise self._missing(stat) from None
        self._compare(stat, f"{self.root}/{stat.path}", size, crc)

    def local_file(self, stat: FileStat) -> str:
        """A file on this machine with a committed file's bytes, to be mapped. Raises StoreError if it has others."""
        try:
            path = self.storage.fetch(stat.path)
        except FileNotFoundError:
            raise self._missing(stat) from None
        original = path == self.storage.address(stat.path)
        self._compare(stat, path, *LocalFolder("").checksum(path), RESTORE if original else "delete this copy")
        return path

    def _missing(self, stat: FileStat) -> StoreError:
        return StoreError(f"{self.root}/{stat.path} is missing; restore it, or start a new store")

    def _compare(self, stat: FileStat, where: str, size: int, crc: str, remedy: str = RESTORE) -> None:
        if (size, crc) != (stat.bytes, stat.crc32c):
            raise StoreError(
                f"{where} has changed since it was committed ({size} bytes, {stat.bytes} committed); {remedy}"
            )

    def open_parquet(self, stat: FileStat) -> pq.ParquetFile:
        return pq.ParquetFile(pa.BufferReader(self.read_file(stat)))

    def read_table(
        self, commit: Commit | Manifest, table: str, schema: pa.Schema, columns: list[str] | None = None
    ) -> pa.Table:
        """All rows of one table, files in path order."""
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        parts = [self.open_parquet(stat).read(columns=schema.names) for stat in table_files(commit, table)]
        return pa.concat_tables([schema.empty_table(), *(part.cast(schema) for part in parts)])


def _json_bytes(document: dict) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode()


def _changed_keys(old: dict, new: dict, prefix: str = "") -> list[str]:
    changed: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += _changed_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.append(f"{prefix}{key}")
    return changed
