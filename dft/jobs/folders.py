"""Job folders: what is asked, who runs it, what came out. Every file is written once, so a kill at any moment loses
nothing but the calculation under way.

JOBS/ab/ab12.../job.json                     the crystal and the protocol; written last, it makes the job exist
JOBS/ab/ab12.../README, inputs/              for people, and for those who run it in their own way
JOBS/ab/ab12.../attempts/01/requested.json   asked for (again): by `gnome dft retry` or `gnome dft submit`
JOBS/ab/ab12.../attempts/01/claim.json       who runs it; created only if absent, so nothing runs twice
JOBS/ab/ab12.../attempts/01/relax1/...       one calculation; done.json says that it converged
JOBS/ab/ab12.../attempts/01/end.json         converged, or failed and why
JOBS/shards/*.tar                            jobs that were emitted packed
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from dft.jobs.shards import Shard, write_shard
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.crystal import Crystal
from gnome_core.files import create_file, replacing, sync_file_system, write_all

log = logging.getLogger(__name__)

STALE_AFTER = 600.0  # s without a sign of life from another machine
HEARTBEAT = 60.0  # s between signs of life
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what reading a damaged document raises


class State(StrEnum):
    """emitted: waits for whoever comes first. taken: out of a bucket, into a folder elsewhere. submitted: waits in a
    queue. stale: begun by a process that is gone."""

    EMITTED = "emitted"
    TAKEN = "taken"
    SUBMITTED = "submitted"
    RUNNING = "running"
    CONVERGED = "converged"
    FAILED = "failed"
    STALE = "stale"


ENDED = (State.CONVERGED, State.FAILED)


@dataclass(frozen=True)
class Job:
    """One crystal to evaluate. id: the digest of crystal and protocol (`dft.tables.job_digest`)."""

    id: str
    crystal: Crystal
    evaluator: str
    protocol: str

    def to_json(self) -> bytes:
        crystal = self.crystal
        document = {
            "id": self.id,
            "formula": reduced_formula(crystal.numbers),
            "chemsys": chemsys(crystal.numbers),
            "evaluator": self.evaluator,
            "protocol": json.loads(self.protocol),
            "lattice": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "numbers": crystal.numbers.tolist(),
        }
        return (json.dumps(document, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Job:
        """Raises ValueError or KeyError for anything but `to_json`'s output."""
        document = json.loads(data)
        crystal = Crystal(document["lattice"], document["frac_coords"], document["numbers"])
        protocol = json.dumps(document["protocol"], sort_keys=True, separators=(",", ":"))
        return cls(document["id"], crystal, document["evaluator"], protocol)


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. steps: calculation -> its folder, relative to the job's. seconds: wall time."""

    state: State
    reason: str = ""
    message: str = ""
    steps: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    energy_per_atom: float | None = None

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "steps": dict(self.steps)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Ending:
        """Raises one of UNREADABLE for anything but a `document()`."""
        rest = dict(document)
        return cls(State(rest.pop("state")), **rest)


@dataclass(frozen=True)
class Attempt:
    """One try at a job."""

    number: int
    folder: Path

    @cached_property
    def claim(self) -> dict | None:
        """None without one; {} for a damaged one, whose owner nobody knows any more."""
        return _read_record(self.folder / "claim.json", {"host", "boot", "pid", "start"})

    @cached_property
    def request(self) -> dict | None:
        return _read_record(self.folder / "requested.json", {"queue"})

    @cached_property
    def ending(self) -> Ending | None:
        """A damaged end.json is a failure of its own: what it said is lost, the job can be tried again."""
        try:
            document = _read_json(self.folder / "end.json")
            return None if document is None else Ending.of(document)
        except UNREADABLE as error:
            text = f"{self.folder}/end.json is damaged ({type(error).__name__}: {error}); retry the job"
            return Ending(State.FAILED, "damaged_record", text)

    @property
    def state(self) -> State:
        if self.ending:
            return self.ending.state
        if self.claim is None:
            return State.SUBMITTED if self.request and self.request["queue"] else State.EMITTED
        return State.RUNNING if self.claim and _is_alive(self.claim, self.folder / "claim.json") else State.STALE


class JobFolder:
    """The folder of one job, as it was when its attempts were first looked at."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.id = folder.name

    @cached_property
    def job(self) -> Job:
        """Raises one of UNREADABLE for a damaged job.json, or where there is none."""
        return Job.from_json((self.folder / "job.json").read_bytes())

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Oldest first."""
        folder = self.folder / "attempts"
        numbers = sorted(int(name) for name in _children(folder) if name.isdigit())
        return [Attempt(number, folder / f"{number:02}") for number in numbers]

    @property
    def state(self) -> State:
        return self.attempts[-1].state if self.attempts else State.EMITTED

    @property
    def ending(self) -> Ending | None:
        """Of the newest attempt."""
        return self.attempts[-1].ending if self.attempts else None

    def claim(self, submitted: bool = False) -> Attempt | None:
        """Take the job, or None if it is not to be had: running, ended, or another process was faster.

        submitted: also where it waits in a queue; what the queue starts says so.
        """
        state = self.state
        if state not in (State.EMITTED, State.STALE) and not (submitted and state is State.SUBMITTED):
            return None
        newest = self.attempts[-1].number if self.attempts else 0
        attempt = self._attempt(newest if newest and state is not State.STALE else newest + 1)
        return attempt if create_json(attempt.folder / "claim.json", _this_process()) else None

    def request(self, queue: Mapping[str, object] | None = None) -> Attempt | None:
        """Ask for a new attempt; None if one is under way.

        queue: where it was submitted to; without it, any worker may take it.
        """
        if self.state is State.RUNNING:
            return None
        attempt = self._attempt(self.attempts[-1].number + 1 if self.attempts else 1)
        made = create_json(attempt.folder / "requested.json", {"queue": queue and dict(queue), "time": time.time()})
        return attempt if made else None

    def _attempt(self, number: int) -> Attempt:
        return Attempt(number, self.folder / "attempts" / f"{number:02}")


class JobFolders:
    """All job folders of one evaluator."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def __getitem__(self, id_: str) -> JobFolder:
        """Raises ValueError for an id that is no plain name, as one that would lead out of the folder."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", id_):
            raise ValueError(f"{id_!r} is not a job id")
        return JobFolder(self.root / id_[:2] / id_)

    def ids(self) -> list[str]:
        """Sorted ids of all jobs, packed ones too."""
        found = {id_ for shard in self._shards() for id_ in shard.ids()}
        for group in _children(self.root):
            if len(group) == 2:
                found.update(name for name in _children(self.root / group) if not name.startswith("."))
        return sorted(found)

    def emit(self, files: Mapping[str, Mapping[str, bytes]]) -> int:
        """Make the folders that are not there yet: job id -> relative path -> content. Returns how many were made.

        All are whole and on the disk before the first of them gets its name. Raises OSError, leaving none half made.
        """
        new = {id_: content for id_, content in files.items() if not self[id_].folder.exists()}
        if not new:
            return 0
        scratches = {id_: f"{self[id_].folder.parent}/.{id_}.{uuid.uuid4().hex}" for id_ in new}
        try:
            for id_, content in new.items():
                write_folder(scratches[id_], content)
            sync_file_system(self.root)
        except BaseException:
            for scratch in scratches.values():
                shutil.rmtree(scratch, ignore_errors=True)
            raise
        made = sum(_publish(scratch, self[id_].folder) for id_, scratch in scratches.items())
        sync_file_system(self.root)
        return made

    def pack(self, name: str, files: Mapping[str, Mapping[str, bytes]]) -> int:
        """Write the jobs into shards/`name`.tar unless it is there; they unpack into job folders anywhere."""
        target = self.root / "shards" / f"{name}.tar"
        if target.exists():
            return 0
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            write_shard(file, sorted(files.items()))
        return len(files)

    def unpack(self) -> int:
        """Make the folders of packed jobs; returns how many were made."""
        return sum(self.emit({id_: shard.files(id_) for id_ in shard.ids()}) for shard in self._shards())

    def _shards(self) -> Iterator[Shard]:
        """All but those that are damaged, which are told."""
        for name in _children(self.root / "shards"):
            path = self.root / "shards" / name
            if path.suffix == ".tar":
                try:
                    yield Shard(path)
                except (tarfile.TarError, ValueError, OSError) as error:
                    log.error("%s is damaged (%s): its jobs are left out; emit them again, or copy it", path, error)


def create_json(path: Path, document: Mapping) -> bool:
    """Write the file unless it exists; of several racing writers one gets True."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return create_file(path, (json.dumps(document, sort_keys=True, default=str) + "\n").encode())


def end_attempt(attempt: Attempt, ending: Ending) -> None:
    """Say how the attempt ended; the first word stands."""
    create_json(attempt.folder / "end.json", ending.document())


def write_folder(folder: str, files: Mapping[str, bytes]) -> None:
    """Make a folder with these files, by relative path; nothing sees to it that they outlive a power cut."""
    os.makedirs(folder)
    made = {""}
    for name, content in files.items():  # system calls are most of the cost, so none is made twice
        below = os.path.dirname(name)
        if below not in made:
            os.makedirs(f"{folder}/{below}", exist_ok=True)
            made.add(below)
        write_all(f"{folder}/{name}", content)


def _publish(scratch: str, target: Path) -> bool:
    try:
        os.rename(scratch, target)
    except OSError:  # another process was first
        shutil.rmtree(scratch, ignore_errors=True)
        if not target.exists():
            raise
        return False
    return True


def _children(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _read_record(path: Path, keys: set[str]) -> dict[str, Any] | None:
    """The record, or {} where it is damaged."""
    try:
        found = _read_json(path)
    except (OSError, ValueError):
        return {}
    return found if found is None or (isinstance(found, dict) and keys <= found.keys()) else {}


def _this_process() -> dict:
    return {**_machine(), "pid": os.getpid(), "start": _start_of(os.getpid()), "time": time.time()}


def _machine() -> dict[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot}


def _start_of(pid: int) -> str | None:
    """When a process of this machine started, in ticks, so that a reused number is not taken for it; None if gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _is_alive(claim: Mapping, path: Path) -> bool:
    if {key: claim[key] for key in ("host", "boot")} == _machine():
        return _start_of(claim["pid"]) == claim["start"]
    try:
        return time.time() - path.stat().st_mtime < STALE_AFTER
    except FileNotFoundError:
        return False
