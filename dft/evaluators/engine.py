"""A first-principles engine as an evaluator: every crystal is a job in a folder, run on this machine if it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dft.config import DftConfig
from dft.jobs.engine import Engine, OutputError, job_files, read_job
from dft.jobs.folders import Job, JobFolders
from dft.tables import job_digest, protocol_json
from dft.workers import Ended, run_jobs
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Relaxation, RelaxationFailure


class JobEvaluator:
    """Jobs that have ended before are read, not run. folder: where the job folders are; None evaluates nothing."""

    def __init__(self, engine: Engine, dft: DftConfig, folder: str | None):
        self.engine, self.dft, self.folder = engine, dft, folder
        self.name, self.scale = engine.name, engine.scale

    @property
    def protocol(self) -> Mapping[str, object]:
        return self.engine.protocol

    def corrections(self, crystals: Sequence[Crystal]) -> None:
        """None: results of jobs come with theirs."""

    def evaluate(
        self, crystals: Sequence[Crystal], progress: Callable[[int], None] | None = None
    ) -> list[Relaxation | RelaxationFailure]:
        """Raises EngineMissing where jobs are to be run and the engine is not there."""
        if self.folder is None:
            raise ValueError(f"{self.name} runs jobs in folders; give make_evaluator a folder")
        protocol = protocol_json(self.protocol)
        jobs = [Job(job_digest(crystal, protocol), crystal, self.name, protocol) for crystal in crystals]
        folders = JobFolders(self.folder)
        folders.emit({job.id: job_files(job, self.engine) for job in jobs})
        waiting = [job.id for job in jobs if folders[job.id].ending is None]
        if progress:
            progress(len(jobs) - len(waiting))
        for event in run_jobs(self.folder, self.name, self.dft, waiting) if waiting else ():
            if progress and isinstance(event, Ended):
                progress(1)
        return [self._outcome(folders, job.id) for job in jobs]

    def _outcome(self, folders: JobFolders, id_: str) -> Relaxation | RelaxationFailure:
        try:
            calculation = read_job(folders[id_], self.engine)
        except OutputError as error:
            return RelaxationFailure(error.reason, str(error), [])
        if calculation is None:
            return RelaxationFailure("interrupted", f"{folders[id_].folder} has not ended; evaluate again", [])
        return calculation.outcome
