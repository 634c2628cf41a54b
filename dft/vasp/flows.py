"""GNoME's VASP protocol as an atomate2 flow, for jobflow and the queues behind it. Importing this takes seconds."""

from __future__ import annotations

import json
import warnings
from typing import Any, cast

from jobflow import Flow

from dft.config import VaspConfig
from dft.jobs.folders import Job
from dft.protocol import VaspStep
from dft.vasp.inputs import make_set, vasp_steps
from gnome_core.crystals.convert import to_structure

# Every job of a flow carries these in its metadata, by which its document is found in a job store.
JOB_KEY, STEP_KEY = "gnome_job", "gnome_step"


def make_flow(job: Job, config: VaspConfig, wall_time: int | None = None, max_errors: int = 5) -> Flow:
    """One atomate2 job a step, each from the structure of the one before."""
    structure, previous, jobs = to_structure(job.crystal), None, []
    for step in vasp_steps(config):
        maker = _maker(step, config, wall_time, max_errors)
        needs = previous is not None and (step.reads_previous or step.copies)
        one = maker.make(structure, prev_dir=previous.output.dir_name) if needs else maker.make(structure)
        one.update_metadata({JOB_KEY: job.id, STEP_KEY: step.name})
        jobs.append(one)
        structure, previous = one.output.structure, one
    return Flow(jobs, output=jobs[-1].output, name=f"gnome {job.id[:12]}")


def _maker(step: VaspStep, config: VaspConfig, wall_time: int | None, max_errors: int):
    """atomate2's own job for one step; it takes pymatgen's sets although its annotation names a class of its own."""
    from atomate2.vasp.jobs.base import BaseVaspMaker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BaseVaspMaker(
            name=step.name,
            input_set_generator=cast("Any", make_set(step)),
            copy_vasp_kwargs={"additional_vasp_files": step.copies},
            run_vasp_kwargs={
                "vasp_cmd": config.command,
                "vasp_gamma_cmd": config.gamma_command,
                "max_errors": max_errors,
                "wall_time": wall_time,
                "custodian_kwargs": {"polling_time_step": config.polling},
            },
            task_document_kwargs={"parse_bandstructure": "line"} if step.input_set == "LineSet" else {},
        )


def flow_json(job: Job, config: VaspConfig, wall_time: int | None = None, max_errors: int = 5) -> bytes:
    """The flow as jobflow reads it back: `Flow.from_dict(json.loads(...))`."""
    from monty.json import MontyEncoder

    return json.dumps(make_flow(job, config, wall_time, max_errors).as_dict(), cls=MontyEncoder).encode()
