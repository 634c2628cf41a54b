"""Jobs of a store in a bucket, taken into a folder of some machine, run there, and delivered to the store again.

FOLDER/taken.json                        of which store, and who this folder is to it; written first
FOLDER/ab/ab12.../                       a job, as `dft.jobs.folders` has them
FOLDER/ab/ab12.../attempts/01/delivered.json   its results are in the store

Whatever is killed: what was taken and is not in the folder is put there by the next `take`, what has ended and was not
delivered is by the next `deliver`. Jobs of a folder that is gone stay taken until somebody opens them again.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from dft.config import DftConfig
from dft.engines import make_engine
from dft.jobs.folders import JobFolder, JobFolders, State, create_json
from dft.workers import Begun, Ended, WorkerDied, run_jobs
from gnome_core.caches import data_folder
from gnome_core.files import is_temporary
from pipelines.errors import StoreError, UserError
from pipelines.reading.bucket_jobs import SHARD, BucketJobs
from pipelines.reading.job_ledger import WAITS, Delivery, Holder, Standing, delivered, opened, taken
from pipelines.store.digests import json_digest
from pipelines.store.store import Store

log = logging.getLogger(__name__)

FILE, MARK = "taken.json", "delivered.json"
SITES = ("POTCAR", "POTCAR.orig")  # licensed to those who run VASP: they stay where they were used
RESULT_BYTES = 64 << 20  # of one object with results, more or less
AHEAD = 4  # jobs that a worker here has taken at most, so that other machines find some too
DELIVER_EVERY = 600.0  # s


@dataclass(frozen=True)
class TakenFolder:
    """A folder of jobs of one engine. dft: the settings of the store's newest round when it was made."""

    folders: JobFolders
    store: str
    engine: str
    holder: Holder
    dft: DftConfig

    @classmethod
    def open(cls, folder: Path) -> TakenFolder | None:
        """None where no jobs were taken into the folder. Raises UserError where that cannot be read."""
        try:
            found = json.loads((folder / FILE).read_bytes())
            holder, dft = Holder(**found["holder"]), DftConfig.model_validate(found["dft"])
            return cls(JobFolders(folder.absolute()), found["store"], found["engine"], holder, dft)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder / FILE} is damaged ({type(error).__name__}: {' '.join(str(error).split())}); restore it, or "
                "give the folder up: `gnome dft release` opens its jobs for others"
            ) from error

    @classmethod
    def make(cls, folder: Path, store: Store, engine: str, dft: DftConfig) -> TakenFolder:
        """The folder, made unless it is there. Raises UserError where it is another store's, or another engine's."""
        holder = Holder(secrets.token_hex(8), socket.gethostname(), str(folder.absolute()))
        document = {"store": store.root, "engine": engine, "holder": asdict(holder), "dft": dft.model_dump()}
        create_json(folder / FILE, document)
        made = cls.open(folder)
        assert made is not None
        if (made.store, made.engine) != (store.root, engine):
            raise UserError(f"{folder} has {made.engine} jobs of {made.store}; take these into another folder")
        return made

    @cached_property
    def jobs(self) -> BucketJobs:
        """Those of the store, as they stood at the last `refresh`: what has been read of its ledger is kept."""
        return BucketJobs(Store(self.store), self.engine)

    def waiting(self) -> list[str]:
        """Ids of those that can be run here and now."""
        return [id_ for id_ in self.folders.ids() if self.folders[id_].state in (State.EMITTED, State.STALE)]

    def holds(self, standing: Standing) -> bool:
        return standing.holder is not None and standing.holder.id == self.holder.id

    def may_deliver(self, standing: Standing, attempt: int) -> bool:
        """Whether that attempt is news to the store, and the job nobody else's."""
        mine = standing.holder is None or self.holds(standing)
        return mine and (standing.delivery is None or standing.delivery.attempt < attempt)


def take(here: TakenFolder, limit: int | None = None, ids: Collection[str] | None = None) -> list[str]:
    """Take jobs that wait, until `limit` have been taken and not been delivered; returns those that are new here.

    ids: only of these.
    """
    jobs = here.jobs
    jobs.refresh()
    asked = [id_ for id_ in jobs.ids() if ids is None or id_ in ids]

    def decide(standings: Mapping[str, Standing]) -> dict | None:
        had = sum(here.holds(standing) and standing.state is State.TAKEN for standing in standings.values())
        waiting = [id_ for id_ in asked if standings.get(id_, WAITS).state is State.EMITTED]
        chosen = waiting if limit is None else waiting[: max(0, limit - had)]
        return taken(here.holder, chosen) if chosen else None

    jobs.append(decide)
    new = []
    for id_ in jobs.ids():
        standing = jobs.standing(id_)
        if here.holds(standing) and standing.state is State.TAKEN:
            folder, delivery = here.folders[id_], standing.delivery
            if not folder.folder.exists():
                new.append(id_)
            elif delivery and folder.ending and folder.attempts[-1].number <= delivery.attempt:
                folder.request()  # it was delivered from here, and is asked for again
                new.append(id_)
    jobs.fetch(new)
    for start in range(0, len(new), SHARD):
        here.folders.emit(_files_of(jobs, new[start : start + SHARD]))
    return [id_ for id_ in new if here.folders[id_].folder.exists()]


def _files_of(jobs: BucketJobs, ids: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Files of the jobs, without those of a shard that is damaged, which is told."""
    found, damaged = {}, Counter()
    for id_ in ids:
        try:
            found[id_] = jobs.files(id_)
        except StoreError as error:
            damaged[str(error)] += 1
    for what, n in damaged.items():
        log.error("%s: %d jobs of it stay out", what, n)
    return found


@dataclass(frozen=True)
class Delivered:
    """ids: of jobs whose results are in the store now. refused: job id -> why its results stayed here."""

    ids: list[str]
    refused: dict[str, str]


def deliver(here: TakenFolder) -> Delivered:
    """Put the results of jobs that have ended here into the store."""
    jobs, ids, refused = here.jobs, [], {}
    jobs.refresh()
    ended: dict[str, JobFolder] = {}
    for id_ in here.folders.ids():
        folder = here.folders[id_]
        if folder.ending is None or (folder.attempts[-1].folder / MARK).exists():
            continue
        standing = jobs.standing(id_)
        if here.may_deliver(standing, folder.attempts[-1].number):
            ended[id_] = folder
        elif not here.holds(standing):
            assert standing.holder is not None
            refused[id_] = f"{standing.state} by {standing.holder.name} since {standing.since}"
    for part in _parts(ended):
        file = jobs.keep("results", part)
        deliveries = {id_: delivery_of(ended[id_], file) for id_ in part}

        def decide(standings: Mapping[str, Standing], deliveries: Mapping[str, Delivery] = deliveries) -> dict | None:
            mine = {id_: d for id_, d in deliveries.items() if here.may_deliver(standings.get(id_, WAITS), d.attempt)}
            return delivered(here.holder, mine) if mine else None

        record = jobs.append(decide)
        for id_ in record["jobs"] if record else ():
            create_json(ended[id_].attempts[-1].folder / MARK, {"store": here.store, "file": file.path})
            ids.append(id_)
    return Delivered(ids, refused)


def delivery_of(folder: JobFolder, file) -> Delivery:
    newest = folder.attempts[-1]
    assert newest.ending is not None
    claims = sum(attempt.claim is not None for attempt in folder.attempts)
    seconds = sum(attempt.ending.seconds for attempt in folder.attempts if attempt.ending)
    return Delivery(file, newest.ending, newest.number, claims, seconds)


def _parts(ended: Mapping[str, JobFolder]) -> Iterator[dict[str, dict[str, bytes]]]:
    """Files of the jobs' attempts, so many jobs at a time as make an object."""
    part: dict[str, dict[str, bytes]] = {}
    size = 0
    for id_, folder in ended.items():
        try:
            part[id_] = _attempt_files(folder)
        except FileNotFoundError:  # another process here has delivered it
            continue
        size += sum(map(len, part[id_].values()))
        if size >= RESULT_BYTES or len(part) == SHARD:
            yield part
            part, size = {}, 0
    if part:
        yield part


def _attempt_files(folder: JobFolder) -> dict[str, bytes]:
    """What the attempts up to the newest one left, by path relative to the job's folder."""
    found = {}
    for attempt in folder.attempts:
        for place, _, names in os.walk(attempt.folder):
            for path in (Path(place, name) for name in sorted(names)):
                if path.name not in (*SITES, MARK) and not is_temporary(path.name) and path.is_file():
                    found[path.relative_to(folder.folder).as_posix()] = path.read_bytes()
    return found


def give_back(here: TakenFolder, ids: Collection[str] | None = None) -> list[str]:
    """Open those jobs again that have not ended here and are in nobody's hands, and take them out of the folder."""
    jobs, scratch = here.jobs, {}
    jobs.refresh()
    for id_ in here.waiting() if ids is None else ids:
        folder = here.folders[id_]
        if here.holds(jobs.standing(id_)) and folder.claim() is not None:
            # Out of the way first: what is open for others is never to be run here.
            scratch[id_] = folder.folder.with_name(f".{id_}.given-back")
            os.rename(folder.folder, scratch[id_])
    back = open_again(jobs, lambda id_, s: id_ in scratch and s.state is State.TAKEN and here.holds(s))
    for path in scratch.values():
        shutil.rmtree(path)
    return back


def open_again(jobs: BucketJobs, which: Callable[[str, Standing], bool]) -> list[str]:
    """Let the jobs wait for whoever comes first; returns their ids."""

    def decide(standings: Mapping[str, Standing]) -> dict | None:
        chosen = [id_ for id_, standing in standings.items() if which(id_, standing)]
        return opened(chosen) if chosen else None

    record = jobs.append(decide)
    return record["jobs"] if record else []


def run_from_bucket(
    store: Store, engine: str, dft: DftConfig, ids: Collection[str] | None = None
) -> Iterator[Begun | Ended | WorkerDied]:
    """Take, run and deliver jobs until none waits, in a folder of this user's; a folder that was killed goes on.

    ids: only these. Raises EngineMissing before anything is taken.
    """
    make_engine(engine, dft).check()
    ids = None if ids is None else set(ids)
    name = json_digest(store.root)[:16]
    here = TakenFolder.make(data_folder() / "jobs" / name / engine, store, engine, dft)
    _deliver_and_remove(here)
    while True:
        take(here, AHEAD * dft.workers, ids)
        waiting = [id_ for id_ in _ours(here) if ids is None or id_ in ids]
        if not waiting:
            return
        last = time.monotonic()
        try:
            for event in run_jobs(here.folders.root, engine, dft, waiting):
                yield event
                if isinstance(event, Ended) and time.monotonic() - last > DELIVER_EVERY:
                    _deliver_and_remove(here)
                    last = time.monotonic()
        finally:
            _deliver_and_remove(here)
        if set(waiting) & set(here.waiting()):
            return  # the machine's fault, which a worker has told; they go on where they were when it is called again


def given_away(here: TakenFolder, ids: Collection[str]) -> dict[str, str]:
    """Of these jobs, those that were opened for others since they were taken: id -> whose each is now."""
    here.jobs.refresh()
    standings = {id_: here.jobs.standing(id_) for id_ in ids}
    return {
        id_: f"{standing.state}{f' by {standing.holder.name}' if standing.holder else ''}"
        for id_, standing in standings.items()
        if not here.holds(standing)
    }


def _ours(here: TakenFolder) -> list[str]:
    """Jobs that wait here, without those that were opened for others meanwhile."""
    waiting = here.waiting()
    others = given_away(here, waiting)
    return [id_ for id_ in waiting if id_ not in others]


def _deliver_and_remove(here: TakenFolder) -> None:
    for id_ in deliver(here).ids:
        shutil.rmtree(here.folders[id_].folder, ignore_errors=True)
