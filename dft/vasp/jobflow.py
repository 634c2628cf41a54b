"""Handing VASP jobs to jobflow-remote as flows, and the way back from its job store into the folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dft.config import DftConfig
from dft.jobs.folders import Ending, JobFolders, State, create_json, end_attempt
from dft.jobs.slurm import SubmitError, withdraw
from dft.vasp.outputs import read_task


def submit_flows(
    folders: JobFolders, ids: Sequence[str], evaluator: str, dft: DftConfig, project: str | None, worker: str | None
) -> str:
    """Hand one atomate2 flow a job to jobflow-remote; says what was done. Raises SubmitError."""
    if evaluator != "vasp":
        raise SubmitError(f"atomate2 has no flows for {evaluator}; submit to Slurm instead")
    try:
        from jobflow_remote import submit_flow
        from jobflow_remote.config.base import ConfigError

        from dft.vasp.flows import make_flow
    except ImportError as error:
        raise SubmitError(f"{error.name} is missing: pip install 'gnome-flywheel[dft]'") from None
    n = 0
    for id_ in ids:
        flow = make_flow(folders[id_].job, dft.vasp, dft.wall_time, dft.max_errors)
        request = folders[id_].request({"kind": "jobflow-remote", "project": project or "", "flow": flow.uuid})
        if request is None:
            continue
        try:
            submit_flow(flow, worker=worker, project=project)
        except (ConfigError, ValueError, OSError, RuntimeError) as error:
            withdraw([request])
            raise SubmitError(f"jobflow-remote: {error}; {n} flows were submitted before") from error
        n += 1
    return f"{n} flows submitted; `jf job list` shows them, `gnome dft fetch` takes their results"


def fetch_flows(folders: JobFolders, job_store: Path | None, project: str | None) -> str:
    """Take what a job store has of submitted jobs into their folders; says what was found. Raises SubmitError."""
    from dft.vasp.flows import JOB_KEY

    store = _open_store(job_store, project)
    waiting = [id_ for id_ in folders.ids() if folders[id_].state is State.SUBMITTED]
    ended = 0
    with store:
        for id_ in waiting:
            documents = list(store.query({f"metadata.{JOB_KEY}": id_}, load=True))
            ended += _fetch(folders, id_, documents)
    return f"{ended} of {len(waiting)} submitted jobs have ended"


def _open_store(job_store: Path | None, project: str | None):
    try:
        if job_store:
            from jobflow import JobStore

            return JobStore.from_file(str(job_store))
        from jobflow_remote import get_jobstore

        return get_jobstore(project)
    except Exception as error:  # pydantic, YAML, Mongo and file errors alike
        raise SubmitError(f"no job store ({error}); name one with --job-store or --project") from error


def _fetch(folders: JobFolders, id_: str, documents: Sequence[dict]) -> bool:
    """Write a job's documents into its folder; whether the job has ended."""
    from monty.json import MontyEncoder

    from dft.vasp.flows import STEP_KEY

    folder = folders[id_]
    wanted = _steps_of(folder.job.protocol)
    found = {document["metadata"][STEP_KEY]: document["output"] for document in documents}
    attempt = folder.attempts[-1]
    paths, energy, failure, message = {}, None, "", ""
    for step in wanted:
        if step not in found:
            break
        path = attempt.folder / step
        path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found[step], cls=MontyEncoder)
        (path / "task.json").write_text(text)
        paths[step] = str(path.relative_to(folder.folder))
        result = read_task(json.loads(text), path)
        if result.failure:
            failure, message = result.failure, result.message
            break
        create_json(path / "done.json", {"attempt": attempt.number})
        if step == "static":
            energy = float(result.frames[-1].energy) / result.crystal.n_sites
    if failure:
        end_attempt(attempt, Ending(State.FAILED, failure, message, paths))
        return True
    if len(paths) < len(wanted):
        return False
    end_attempt(attempt, Ending(State.CONVERGED, steps=paths, energy_per_atom=energy))
    return True


def _steps_of(protocol: str) -> list[str]:
    from dft.protocol import VASP_PROTOCOLS

    return [step.name for step in VASP_PROTOCOLS[json.loads(protocol)["protocol"]]]
