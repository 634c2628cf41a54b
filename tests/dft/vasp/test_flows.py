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
from tests.dft.vasp.small_run import Step, write_run
from tests.dft.vasp.test_outputs import as_document

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
    assert set(calculation.calculations) == set(engine.steps) - {"bands"}, "which is not self-consistent"
    scales = dict(zip(calculation.calculations, calculation.scales, strict=True))
    first = "pbe+u/mp2020/vasp" if protocol == "bands" else "pbe+u/pbe_54/vasp"
    assert scales == {"relax1": first, "relax2": engine.scale, "static": engine.scale}
    version = calculation.correction_version
    assert version is None if protocol == "r2scan" else version.startswith("mp2020/require_bound/pymatgen")
    found = [
        engine.read(step, folder.folder / path).parameters["run_type"] for step, path in folder.ending.steps.items()
    ]
    assert sorted(kind.rpartition(".")[2].upper() for kind in found) == sorted(types)


def test_a_job_store_that_is_not_there_is_one_message(tmp_path):
    with pytest.raises(SubmitError, match="no job store"):
        fetch_flows(JobFolders(tmp_path), tmp_path / "none.yaml", None)


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A function of {job: its documents or an exception} -> (folders, what fetch_flows said)."""
    from dft.vasp import jobflow

    class Documents:
        def __init__(self, documents):
            self.documents = documents

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def query(self, criteria, load):
            found = self.documents[criteria["metadata.gnome_job"]]
            if isinstance(found, Exception):
                raise found
            return iter(found)

    def fetch(documents):
        folders = JobFolders(tmp_path / "jobs")
        for id_ in documents:
            protocol = protocol_json({"protocol": "pbe"})
            folders.emit({id_: {"job.json": Job(id_, COPPER, "vasp", protocol).to_json()}})
            folders[id_].request({"kind": "jobflow-remote"})
        monkeypatch.setattr(jobflow, "_open_store", lambda *_: Documents(documents))
        return folders, fetch_flows(folders, None, None)

    return fetch


COPPER = Crystal(np.eye(3) * 2.3, [[0, 0, 0]], [29])


def documents_of(tmp_path, energy: float = -4.25, completed: str = "2026-01-01", **broken) -> list[dict]:
    """A job store's documents of the three steps; broken: step -> the output that stands there instead."""
    step = Step(energy, energy, (energy, energy))
    output = as_document(write_run(tmp_path / f"run{energy}", [step]), "6.4.3")
    return [
        {
            "index": 1,
            "completed_at": completed,
            "metadata": {"gnome_step": name},
            "output": broken.get(name, output),
        }
        for name in ("relax1", "relax2", "static")
    ]


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_document_ends_its_own_job_and_stops_no_other(fetched, tmp_path):
    whole = documents_of(tmp_path)
    foreign = json.loads(json.dumps(whole[2]["output"]).replace('"Cu"', '"Ag"'))
    poison = {
        "aa1": documents_of(tmp_path, relax2=None),
        "aa2": documents_of(tmp_path, static={"calcs_reversed": [{}]}),
        "aa3": documents_of(tmp_path, relax1=[1, 2]),
        "aa4": documents_of(tmp_path, static=foreign),
        "aa5": documents_of(tmp_path, relax1={**whole[0]["output"], "custodian": "none"}),
    }
    folders, said = fetched({**poison, "bb1": RuntimeError("timed out"), "cc1": whole, "dd1": whole[:2]})
    assert said == "6 of 8 submitted jobs have ended; 1 could not be looked up (bb1: RuntimeError: timed out)"
    for id_ in poison:
        ending = folders[id_].ending
        assert (ending.state, ending.reason) == (State.FAILED, "invalid_output"), id_
        assert str(folders[id_].folder) in ending.message
    assert folders["cc1"].ending.energy_per_atom == -4.25
    assert [folders[id_].state for id_ in ("bb1", "dd1")] == [State.SUBMITTED] * 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_documents_of_a_step_the_newest_counts(order, fetched, tmp_path):
    old, new = documents_of(tmp_path, -1.0, "2026-01-01T10:00:00"), documents_of(tmp_path, -2.0, "2026-01-02T09:00:00")
    folders, _ = fetched({"aa1": [*old, *new][::order], "bb1": [{}, {"metadata": None}, *new]})
    assert [folders[id_].ending.energy_per_atom for id_ in ("aa1", "bb1")] == [-2.0, -2.0]
