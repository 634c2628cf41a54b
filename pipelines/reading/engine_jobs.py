"""First-principles jobs of a store, wherever it lives: in folders, or in a bucket (`bucket_jobs.py`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from dft.jobs.engine import Calculation, Engine, read_job
from dft.jobs.folders import Ending, Job, JobFolders, State
from dft.jobs.shards import JobFiles
from dft.jobs.survey import JobLine, job_line
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.store.store import Store


class EngineJobs(Protocol):
    """Jobs of one engine, shared by all rounds, since ids say what is asked. place: where they are, for people."""

    place: str

    def refresh(self) -> None:
        """See them as they stand now."""
        ...

    def ids(self) -> list[str]: ...

    def state(self, id_: str) -> State: ...

    def ending(self, id_: str) -> Ending | None: ...

    def line(self, id_: str) -> JobLine: ...

    def asked(self, id_: str) -> Job: ...

    def fetch(self, ids: Collection[str]) -> None:
        """Make ready for `read`, so that what is amiss then is a job's own fault."""
        ...

    def read(self, id_: str, engine: Engine) -> Calculation | None: ...

    def emit(self, jobs: Mapping[str, JobFiles]) -> int: ...


class JobsInFolders:
    """Those of a store on a file system, in the folders where programs run them."""

    def __init__(self, folders: JobFolders):
        self.folders, self.place = folders, str(folders.root)

    def refresh(self) -> None:
        """Nothing is kept of them."""

    def ids(self) -> list[str]:
        return self.folders.ids()

    def state(self, id_: str) -> State:
        return self.folders[id_].state

    def ending(self, id_: str) -> Ending | None:
        return self.folders[id_].ending

    def line(self, id_: str) -> JobLine:
        return job_line(self.folders[id_])

    def asked(self, id_: str) -> Job:
        return self.folders[id_].job

    def fetch(self, ids: Collection[str]) -> None:
        pass

    def read(self, id_: str, engine: Engine) -> Calculation | None:
        return read_job(self.folders[id_], engine)

    def emit(self, jobs: Mapping[str, JobFiles]) -> int:
        return self.folders.emit(jobs)


def engine_jobs(store: Store, engine: str) -> EngineJobs:
    folders = job_folders(store, engine)
    return BucketJobs(store, engine) if folders is None else JobsInFolders(folders)


def job_folders(store: Store, engine: str) -> JobFolders | None:
    """None for a store in a bucket."""
    folder = store.storage.local_path(f"jobs/{engine}")
    return None if folder is None else JobFolders(folder)
