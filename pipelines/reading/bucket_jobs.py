"""First-principles jobs of a store in a bucket: a few large objects in place of a folder for each.

STORE/jobs/ENGINE/shards/STAMP.tar       jobs as they were emitted, up to 1,000
STORE/jobs/ENGINE/shards/DIGEST.json     ids and formulas of a shard, and its checksum; makes its jobs exist
STORE/jobs/ENGINE/results/STAMP.tar      attempts at jobs that have ended
STORE/jobs/ENGINE/ledger/00000001.json   who took which jobs, delivered them in which file, opened them again

A tar that nobody lists is as good as none, and one that is not as it was listed is refused.
"""

from __future__ import annotations

import io
import json
import logging
import secrets
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from dft.jobs.engine import Calculation, Engine, OutputError, read_job
from dft.jobs.folders import ENDED, Ending, Job, JobFolder, State, write_folder
from dft.jobs.shards import JobFiles, Shard, write_shard
from dft.jobs.survey import JobLine
from pipelines.errors import StoreError
from pipelines.reading.job_ledger import WAITS, Decide, JobLedger, Standing
from pipelines.store.digests import json_digest
from pipelines.store.ledger import READERS, Ledger
from pipelines.store.records import FileStat
from pipelines.store.seals import sealed, unsealed
from pipelines.store.store import STAMP, Store

log = logging.getLogger(__name__)

SHARD = 1_000  # jobs of a shard


class BucketJobs:
    """The jobs of one engine as they stood when they were first looked at, or at the last `refresh`."""

    def __init__(self, store: Store, engine: str):
        self.store, self.engine = store, engine
        self.path = f"jobs/{engine}"
        self.place = f"{store.root}/{self.path}"
        self._ledger = JobLedger(Ledger(store, f"{self.path}/ledger"))
        self._shards: dict[str, tuple[FileStat, dict[str, str]]] = {}
        self._opened: dict[str, Shard] = {}
        self._listed: dict[str, tuple[FileStat, str]] | None = None
        self._standings: Mapping[str, Standing] | None = None

    def refresh(self) -> None:
        self._listed = self._standings = None
        self._opened = {}

    def ids(self) -> list[str]:
        """Sorted."""
        return sorted(self._jobs())

    def standing(self, id_: str) -> Standing:
        if self._standings is None:
            self._standings = self._ledger.standings()
        return self._standings.get(id_, WAITS)

    def state(self, id_: str) -> State:
        return self.standing(id_).state

    def ending(self, id_: str) -> Ending | None:
        """Of the newest attempt; None while it is not known."""
        standing = self.standing(id_)
        return standing.delivery.ending if standing.delivery and standing.state in ENDED else None

    def line(self, id_: str) -> JobLine:
        """As of `dft.jobs.survey`; the reason of a taken job is who has it."""
        standing, delivery = self.standing(id_), self.standing(id_).delivery
        ending = self.ending(id_)
        reason = ending.reason if ending else ""
        if standing.state is State.TAKEN and standing.holder:
            reason = f"by {standing.holder.name}"
        return JobLine(
            id_,
            self._jobs()[id_][1],
            standing.state,
            reason,
            ending.message if ending else f"since {standing.since}" if standing.since else "",
            delivery.attempts if delivery else 0,
            delivery.seconds if delivery else 0.0,
            ending.energy_per_atom if ending else None,
        )

    def shard(self, id_: str) -> str:
        """Store-relative path of the tar that it was emitted in."""
        return self._jobs()[id_][0].path

    def asked(self, id_: str) -> Job:
        return Job.from_json(self._emitted(id_)["job.json"])

    def files(self, id_: str) -> dict[str, bytes]:
        """What a folder of the job holds: as it was emitted and last delivered, and asked for again if it was opened
        since. Raises StoreError for a shard that is missing or was changed."""
        standing, files = self.standing(id_), self._emitted(id_)
        if standing.delivery and standing.state in ENDED:
            files |= self._shard(standing.delivery.file).files(id_)
        elif standing.delivery:
            request = json.dumps({"queue": None, "time": standing.since}) + "\n"
            files[f"attempts/{standing.delivery.attempt + 1:02}/requested.json"] = request.encode()
            try:
                files |= self._shard(standing.delivery.file).files(id_)
            except StoreError as error:  # which may be why it is asked for again
                log.warning("%s: job %s is run without its earlier attempts", error, id_)
        return files

    def fetch(self, ids: Collection[str]) -> None:
        """Bring what is kept of these jobs to this machine, where `read` finds it. Raises what the bucket does."""
        stats = {self._jobs()[id_][0] for id_ in ids if id_ in self._jobs()}
        stats |= {delivery.file for id_ in ids if (delivery := self.standing(id_).delivery)}

        def bring(stat: FileStat) -> None:
            with suppress(StoreError):  # `read` says so of each of its jobs
                self._shard(stat)

        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(bring, stats))

    def read(self, id_: str, engine: Engine) -> Calculation | None:
        """As `dft.jobs.engine.read_job`; what is wrong with a shard is an OutputError (damaged_shard) too."""
        delivery = self.standing(id_).delivery
        if delivery is None:
            return None
        try:
            files = self.files(id_)
        except StoreError as error:
            raise OutputError("damaged_shard", str(error)) from error
        with tempfile.TemporaryDirectory(prefix="gnome-job-") as scratch:
            folder = Path(scratch, id_)
            write_folder(str(folder), files)
            try:
                return read_job(JobFolder(folder), engine)
            except OutputError as error:  # the folder is gone when somebody looks for it
                where = f"{self.store.root}/{delivery.file.path}:{id_}"
                raise OutputError(error.reason, str(error).replace(str(folder), where)) from error

    def emit(self, jobs: Mapping[str, JobFiles]) -> int:
        """Keep the jobs that are not there yet, in shards; returns how many there were."""
        self.refresh()
        new = sorted(jobs.keys() - self._jobs().keys())
        for start in range(0, len(new), SHARD):
            part = new[start : start + SHARD]
            stat = self.keep("shards", {id_: jobs[id_] for id_ in part})
            formulas = {id_: json.loads(jobs[id_]["job.json"])["formula"] for id_ in part}
            # Of workers that were given the same jobs, as a runner that tries again does, one makes the shard exist.
            index = f"{self.path}/shards/{json_digest(part)}.json"
            self.store.storage.create(index, sealed({"file": stat.model_dump(mode="json"), "jobs": formulas}))
        return len(new)

    def keep(self, kind: str, jobs: Mapping[str, JobFiles]) -> FileStat:
        """Write a tar of a new name, which counts once it is listed. kind: shards | results."""
        data = io.BytesIO()
        write_shard(data, sorted(jobs.items()))
        name = f"{datetime.now(UTC).strftime(STAMP)}-{secrets.token_hex(3)}"
        return self.store.write_blob(f"{self.path}/{kind}/{name}.tar", kind, data.getvalue())

    def append(self, decide: Decide) -> dict | None:
        """As `JobLedger.append`; what follows is read with it."""
        record = self._ledger.append(decide)
        self.refresh()
        return record

    def listed(self) -> dict[str, FileStat]:
        """Path -> every tar that is listed."""
        self.refresh()
        self._jobs()
        stats = [*(stat for stat, _ in self._shards.values()), *self._ledger.files()]
        return {stat.path: stat for stat in stats}

    def _jobs(self) -> dict[str, tuple[FileStat, str]]:
        """Id -> shard and formula of every job."""
        if self._listed is None:
            folder = f"{self.path}/shards"
            names = [name for name in self.store.storage.children(folder) if name.endswith(".json")]
            paths = [f"{folder}/{name}" for name in names if f"{folder}/{name}" not in self._shards]
            with ThreadPoolExecutor(READERS) as pool:
                self._shards |= zip(paths, pool.map(self._index, paths), strict=True)
            self._listed = {}
            for _, (stat, formulas) in sorted(self._shards.items()):
                self._listed |= {id_: (stat, formula) for id_, formula in formulas.items() if id_ not in self._listed}
        return self._listed

    def _index(self, path: str) -> tuple[FileStat, dict[str, str]]:
        document = unsealed(self.store.storage.read(path), f"{self.store.root}/{path}", self.store.root)
        return FileStat.model_validate(document["file"]), document["jobs"]

    def _emitted(self, id_: str) -> dict[str, bytes]:
        return self._shard(self._jobs()[id_][0]).files(id_)

    def _shard(self, stat: FileStat) -> Shard:
        """This machine's copy. Raises StoreError unless it is as it was listed."""
        if stat.path not in self._opened:
            self._opened[stat.path] = Shard(self.store.local_file(stat))
        return self._opened[stat.path]
