"""Handing VASP jobs to jobflow-remote as flows, and the way back from its job store into the folders."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dft.config import DftConfig
from dft.jobs.engine import OutputError, check_output_of
from dft.jobs.folders import UNREADABLE, Ending, JobFolder, JobFolders, State, create_json, end_attempt
from dft.jobs.slurm import SubmitError, withdraw
from dft.protocol import ENERGY_STEP, VASP_PROTOCOLS
from dft.vasp.outputs import read_task
from gnome_core.files import write_file

log = logging.getLogger(__name__)


def submit_flows(
    folders: JobFolders, ids: Sequence[str], evaluator: str, dft: DftConfig, project: str | None, worker: str | None
) -> str:
    """Hand one atomate2 flow a job to jobflow-remote; says what was done. Raises SubmitError."""
    if evaluator != "vasp":
        raise SubmitError(f"atomate2 has no flows for {evaluator}; submit to Slurm instead")
    if dft.vasp.protocol == "aimd":
        raise SubmitError("runs of molecular dynamics go on from what earlier ones left, as no flow does; use Slurm")
    try:
        from jobflow_remote import submit_flow
        from jobflow_remote.config.base import ConfigError

        from dft.vasp.flows import make_flow
    except ImportError as error:
        raise SubmitError(f"{error.name} is missing: pip install 'gnome-flywheel[dft]'") from None
    n = 0
    for id_ in ids:
        try:
            job = folders[id_].job
        except UNREADABLE as error:
            log.error("%s/job.json is damaged (%s) and not submitted; emit the job again", folders[id_].folder, error)
            continue
        flow = make_flow(job, dft.vasp, dft.wall_time, dft.max_errors)
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
    ended, unknown = 0, []
    with store:
        for id_ in waiting:
            try:
                documents = list(store.query({f"metadata.{JOB_KEY}": id_}, load=True))
            except Exception as error:  # of whatever keeps the store; the job is as it was
                unknown.append(f"{id_[:12]}: {type(error).__name__}: {error}")
                continue
            ended += _fetch(folders[id_], documents)
    more = f"; {len(unknown)} could not be looked up ({unknown[0]})" if unknown else ""
    return f"{ended} of {len(waiting)} submitted jobs have ended{more}"


def _open_store(job_store: Path | None, project: str | None):
    try:
        if job_store:
            from jobflow import JobStore

            return JobStore.from_file(str(job_store))
        from jobflow_remote import get_jobstore

        return get_jobstore(project)
    except Exception as error:  # pydantic, YAML, Mongo and file errors alike
        raise SubmitError(f"no job store ({error}); name one with --job-store or --project") from error


def _fetch(folder: JobFolder, documents: Sequence[Mapping[str, Any]]) -> bool:
    """Write a job's documents into its folder; whether the job has ended."""
    attempt = folder.attempts[-1]
    paths: dict[str, str] = {}
    try:
        ending = _ending(folder, documents, paths)
    except OutputError as error:
        ending = Ending(State.FAILED, "invalid_output", str(error))
    except OSError:
        raise
    except Exception as error:  # a document that nothing foresaw ends its own job alone
        text = f"{attempt.folder}: {type(error).__name__}: {error}; look at the job's documents, then retry it"
        ending = Ending(State.FAILED, "invalid_output", text)
    if ending is not None:
        end_attempt(attempt, replace(ending, steps=paths))
    return ending is not None


def _ending(folder: JobFolder, documents: Sequence[Mapping[str, Any]], paths: dict[str, str]) -> Ending | None:
    """How the job's documents end it, None while steps are missing; fills `paths`. Raises OutputError."""
    from monty.json import MontyEncoder

    wanted, found = _steps_of(folder.job.protocol), _newest(documents)
    attempt, energy = folder.attempts[-1], None
    for step in wanted:
        if step not in found:
            return None
        path = attempt.folder / step
        path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found[step].get("output"), cls=MontyEncoder)
        write_file(path / "task.json", text.encode())
        paths[step] = str(path.relative_to(folder.folder))
        document = json.loads(text)
        if not isinstance(document, dict):
            raise OutputError("truncated_output", f"{path}: the job store has no task document of it; fetch it again")
        result = read_task(document, path)
        check_output_of(result, path, folder.job.crystal)
        if result.failure:
            return Ending(State.FAILED, result.failure, result.message)
        create_json(path / "done.json", {"attempt": attempt.number})
        if step == ENERGY_STEP:
            energy = float(result.frames[-1].energy) / result.crystal.n_sites
    return Ending(State.CONVERGED, energy_per_atom=energy)


def _newest(documents: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The document of each step; of several, as reruns leave them, the one that was completed last."""
    from dft.vasp.flows import STEP_KEY

    found: dict[str, Mapping[str, Any]] = {}
    for document in sorted(documents, key=lambda one: (str(one.get("completed_at") or ""), int(one.get("index") or 0))):
        step = (document.get("metadata") or {}).get(STEP_KEY)
        if isinstance(step, str):
            found[step] = document
    return found


def _steps_of(protocol: str) -> list[str]:
    return [step.name for step in VASP_PROTOCOLS[json.loads(protocol)["protocol"]]]
