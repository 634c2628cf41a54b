"""The protocol as atomate2 flows: jobflow, atomate2 and custodian for real around the stand-in, and the way back."""

import json

import numpy as np
import pytest

from dft.config import DftConfig, VaspConfig
from dft.engines import make_engine
from dft.jobs.engine import job_files, read_job
from dft.jobs.folders import Job, JobFolders, State
from dft.jobs.slurm import SubmitError
from dft.tables import job_digest, protocol_json
from dft.vasp.jobflow import fetch_flows, submit_flows
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Relaxation
from tests.dft.standin.vasp import toy_gap

SALT = Crystal((np.ones((3, 3)) - np.eye(3)) * 2.75, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
STORE = """\
docs_store: {{type: JSONStore, paths: {folder}/docs.json, read_only: false}}
additional_stores:
  data: {{type: JSONStore, paths: {folder}/data.json, read_only: false}}
"""


def emitted(standin, folders: JobFolders, protocol: str) -> tuple[Job, DftConfig]:
    vasp = VaspConfig(command=standin.executable, gamma_command=standin.executable, protocol=protocol, polling=0.1)
    dft = DftConfig(vasp=vasp, emit="flows")
    engine = make_engine("vasp", dft)
    settings = protocol_json(engine.protocol)
    job = Job(job_digest(SALT, settings), SALT, "vasp", settings)
    folders.emit({job.id: job_files(job, engine, flow=True)})
    return job, dft


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("protocol", "types"), [("bands", ["GGA"] * 4), ("r2scan", ["GGA", "R2SCAN", "R2SCAN"])])
def test_flows_run_and_come_back_from_their_job_store(protocol, types, vasp_environment, tmp_path, monkeypatch):
    from jobflow import Flow, JobStore, run_locally

    folders = JobFolders(tmp_path / "jobs")
    job, dft = emitted(vasp_environment, folders, protocol)
    submitted = []
    monkeypatch.setattr("jobflow_remote.submit_flow", lambda flow, **options: submitted.append((flow, options)))
    said = submit_flows(folders, [job.id], "vasp", dft, "project", "cluster")
    assert said.startswith("1 flows submitted")
    assert submitted[0][1] == {"worker": "cluster", "project": "project"}
    assert folders[job.id].state is State.SUBMITTED

    spec = tmp_path / "jobstore.yaml"
    spec.write_text(STORE.format(folder=tmp_path))
    for name in ("docs", "data"):
        (tmp_path / f"{name}.json").write_text("[]")
    assert fetch_flows(folders, spec, None) == "0 of 1 submitted jobs have ended"

    # What jobflow reads back from flow.json is what was submitted.
    flow = Flow.from_dict(json.loads((folders[job.id].folder / "flow.json").read_text()))
    assert [one.name for one in flow.jobs] == [one.name for one in submitted[0][0].jobs]
    run_locally(
        flow, create_folders=True, root_dir=tmp_path, ensure_success=True, store=JobStore.from_file(spec), log=False
    )

    assert fetch_flows(folders, spec, None) == "1 of 1 submitted jobs have ended"
    folder = folders[job.id]
    assert folder.state is State.CONVERGED
    engine = make_engine("vasp", dft)
    calculation = read_job(folder, engine)
    assert isinstance(calculation.outcome, Relaxation)
    assert calculation.outcome.energy_per_atom == pytest.approx(-3.668, abs=0.002)
    assert calculation.band_gap == pytest.approx(toy_gap([11, 17]), abs=1e-3)
    assert calculation.correction_per_atom == (pytest.approx(-0.307) if protocol == "bands" else None)
    assert set(calculation.calculations) == set(engine.steps)
    found = [
        engine.read(step, folder.folder / path).parameters["run_type"] for step, path in folder.ending.steps.items()
    ]
    assert sorted(kind.rpartition(".")[2].upper() for kind in found) == sorted(types)


def test_a_job_store_that_is_not_there_is_one_message(tmp_path):
    with pytest.raises(SubmitError, match="no job store"):
        fetch_flows(JobFolders(tmp_path), tmp_path / "none.yaml", None)
