"""The VASP engine over the stand-in, custodian for real: protocols, wall time, what is missing.

Faults that custodian mends or cannot are in test_standin_round.py.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dft.config import DftConfig, VaspConfig
from dft.engines import make_engine
from dft.evaluators.make import make_evaluator
from dft.jobs.engine import EngineMissing, read_job
from dft.jobs.folders import JobFolders, State
from dft.jobs.preflight import preflight
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import Relaxation
from tests.dft.standin.vasp import toy_gap

FCC = np.ones((3, 3)) - np.eye(3)
SALT = Crystal(FCC * 2.75, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
RUST = Crystal(np.diag([3.2, 3.2, 4.9]), [[0, 0, 0], [0.5, 0.5, 0.3], [0, 0.5, 0.7]], [26, 8, 3])


def settings(standin, protocol: str = "pbe", **options) -> DftConfig:
    vasp = VaspConfig(command=standin.executable, gamma_command=standin.executable, protocol=protocol, polling=0.05)
    return DftConfig(vasp=vasp, workers=2, **options)


@dataclass
class Ran:
    engine: object
    folders: JobFolders
    calculations: list

    def step(self, number: int, name: str) -> Path:
        return sorted(self.folders.root.glob(f"??/*/attempts/*/{name}"))[number]


def evaluate(standin, folder: Path, crystals: list[Crystal], protocol: str = "pbe", **options) -> Ran:
    dft = settings(standin, protocol, **options)
    make_evaluator("vasp", RelaxConfig(), dft, str(folder)).evaluate(crystals)
    engine, folders = make_engine("vasp", dft), JobFolders(folder)
    return Ran(engine, folders, [read_job(folders[id_], engine) for id_ in folders.ids()])


def test_the_wall_time_ends_a_job_that_can_go_on_later(vasp_environment, tmp_path, monkeypatch):
    monkeypatch.setenv("STANDIN_FAULTS", "wall_time:1")
    ran = evaluate(vasp_environment, tmp_path / "jobs", [SALT], wall_time=12)
    (id_,) = ran.folders.ids()
    assert ran.folders[id_].ending.reason == "wall_time"
    assert len(ran.calculations[0].outcome.frames) == 2, "the steps until then are kept"
    monkeypatch.delenv("STANDIN_FAULTS")
    ran.folders[id_].request()
    assert evaluate(vasp_environment, tmp_path / "jobs", [SALT], wall_time=60).folders[id_].state is State.CONVERGED


@pytest.mark.parametrize("protocol", ["bands", "r2scan"])
@pytest.mark.filterwarnings("ignore")
def test_protocols_end_to_end_with_run_types_gaps_corrections_and_valid_inputs(protocol, vasp_environment, tmp_path):
    from pymatgen.io.validation.common import VaspFiles
    from pymatgen.io.validation.validation import REQUIRED_VASP_FILES, VaspValidator

    ran = evaluate(vasp_environment, tmp_path / "jobs", [SALT, RUST], protocol)
    by_atoms = {c.outcome.crystal.n_sites: c for c in ran.calculations}
    assert all(isinstance(c.outcome, Relaxation) for c in ran.calculations)
    assert by_atoms[2].band_gap == pytest.approx(toy_gap([11, 17]), abs=1e-3)
    assert by_atoms[3].magnetization == pytest.approx(3.55, abs=0.1)
    assert by_atoms[3].outcome.magmoms.max() > 3
    if protocol == "bands":
        # MP2020: -0.614 eV for Cl; -0.687 for O in an oxide and -2.256 for Fe with +U.
        assert by_atoms[2].correction_per_atom == pytest.approx(-0.614 / 2)
        assert by_atoms[3].correction_per_atom == pytest.approx((-0.687 - 2.256) / 3)
    else:
        assert by_atoms[2].correction_per_atom is None
    types = {"bands": {2: "GGA", 3: "GGA+U"}, "r2scan": {2: "R2SCAN", 3: "R2SCAN"}}[protocol]
    for id_ in ran.folders.ids():
        folder = ran.folders[id_]
        for step, path in folder.ending.steps.items():
            result = ran.engine.read(step, folder.folder / path)
            first = protocol == "r2scan" and step == "relax1"
            expected = {2: "GGA", 3: "GGA+U"} if first else types
            assert result.parameters["run_type"].upper() == expected[folder.job.crystal.n_sites]
            names = {name.lower().split(".")[0]: folder.folder / path / f"{name}.gz" for name in REQUIRED_VASP_FILES}
            files = VaspFiles.from_paths(**{key: file for key, file in names.items() if file.exists()})
            if protocol == "r2scan" and step != "relax1":
                # The validator knows only today's MP24 sets for r2SCAN; the paper used these.
                files.valid_input_set_name = f"MPScan{'Static' if step == 'static' else 'Relax'}Set"
                files.__dict__.pop("valid_input_set", None)
            validated = VaspValidator.from_vasp_input(vasp_files=files, check_potcar=False)
            assert validated.reasons == [], (step, validated.reasons)


def test_a_library_without_a_potential_fails_the_job_and_not_the_others(vasp_environment, tmp_path):
    tellurium = Crystal(SALT.lattice, SALT.frac_coords, [11, 52])
    ran = evaluate(vasp_environment, tmp_path / "jobs", [tellurium, SALT])
    endings = {ran.folders[id_].job.crystal.numbers[1]: ran.folders[id_].ending for id_ in ran.folders.ids()}
    assert endings[52].reason == "missing_potential"
    assert "lacks Te of PBE" in endings[52].message
    assert endings[17].state is State.CONVERGED


def test_preflight_looks_each_element_up_once_and_warns_of_yb(vasp_environment, monkeypatch):
    engine = make_engine("vasp", settings(vasp_environment))
    looked_up = []
    missing = type(engine).missing
    monkeypatch.setattr(type(engine), "missing", lambda self, symbol: looked_up.append(symbol) or missing(self, symbol))
    checked = preflight(engine, [11, 17, 70, 52, 11, 17] * 1000)
    assert sorted(looked_up) == ["Cl", "Na", "Te", "Yb"]
    assert checked.lacking == {"Te"}
    assert any("Yb_2" in message for message in checked.messages())


def test_without_a_library_jobs_may_still_run_elsewhere(monkeypatch):
    from pymatgen.core import SETTINGS

    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR", raising=False)
    checked = preflight(make_engine("vasp", DftConfig()), [11, 17])
    assert checked.lacking == frozenset()
    assert "PMG_VASP_PSP_DIR" in checked.messages()[0]


def test_a_program_that_is_not_there_is_said_before_anything_runs(tmp_path):
    evaluator = make_evaluator("vasp", RelaxConfig(), DftConfig(), str(tmp_path / "jobs"))
    with pytest.raises(EngineMissing, match=r"vasp_std is not on PATH; .*dft\.vasp\.command"):
        evaluator.evaluate([SALT])
    folders = JobFolders(tmp_path / "jobs")
    assert [folders[id_].state for id_ in folders.ids()] == [State.EMITTED]
