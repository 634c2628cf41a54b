"""Molecular dynamics by the VASP engine over the stand-in: from step to step, and on where a run was cut off."""

import gzip
import re

import numpy as np
import pytest

from dft.config import AimdConfig, DftConfig, VaspConfig
from dft.engines import make_engine
from dft.evaluators.make import make_evaluator
from dft.jobs.engine import OutputError, StepFailed, read_job
from dft.jobs.folders import JobFolders, State
from dft.jobs.slurm import SubmitError
from dft.vasp.dynamics import has_velocities, joined, read_dynamics
from dft.vasp.jobflow import submit_flows
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.config import RelaxConfig
from tests.dft.vasp.small_run import Step, write_run

FCC_SITES = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
SALT = Crystal(np.eye(3) * 4.03, [*FCC_SITES, *np.add(FCC_SITES, [0.5, 0, 0]) % 1.0], [3] * 4 + [9] * 4)
RAMP, HELD = 60, 120  # steps


def settings(standin, **options) -> DftConfig:
    aimd = AimdConfig(ramp=RAMP * 2e-3, duration=HELD * 2e-3, label_every=25)
    command = standin.executable
    vasp = VaspConfig(command=command, gamma_command=command, protocol="aimd", polling=0.05, aimd=aimd)
    return DftConfig(vasp=vasp, **options)


def run(standin, folder, **options):
    """The job's folder after an evaluation, and what it gave."""
    dft = settings(standin, **options)
    make_evaluator("vasp", RelaxConfig(), dft, str(folder)).evaluate([SALT])
    folders = JobFolders(folder)
    (id_,) = folders.ids()
    return folders[id_], read_job(folders[id_], make_engine("vasp", dft))


def dynamics_of(job):
    """All its steps, first to last."""
    steps = job.ending.steps
    return joined([read_dynamics(job.folder / steps[name]) for name in ("ramp", "nvt")], "here")


def largest_move(found) -> float:
    """Å in one step."""
    return float(np.linalg.norm(np.diff(found.positions, axis=0), axis=-1).max())


def test_a_run_goes_from_the_ramp_into_what_follows_with_its_velocities(vasp_environment, tmp_path):
    job, calculation = run(vasp_environment, tmp_path / "jobs")
    assert job.state is State.CONVERGED
    held = job.folder / job.ending.steps["nvt"]
    incar = gzip.decompress((held / "INCAR.gz").read_bytes()).decode()
    for line in (f"NSW = {HELD}", "TEBEG = 1000.0", "SMASS = 0", "POTIM = 2.0"):
        assert line in incar
    ramp = job.folder / job.ending.steps["ramp"]
    assert (held / "POSCAR.gz").read_bytes() != (ramp / "POSCAR.gz").read_bytes()
    assert gzip.decompress((held / "POSCAR.gz").read_bytes()) == gzip.decompress((ramp / "CONTCAR.gz").read_bytes())

    found = dynamics_of(job)
    assert len(found) == RAMP + HELD
    assert found.times[-1] == pytest.approx((RAMP + HELD - 1) * 2e-3)
    assert largest_move(found) < 0.15, "no velocity is drawn anew, and no atom jumps across the cell"
    jump = np.linalg.norm(found.positions[RAMP] - found.positions[RAMP - 1], axis=-1)
    before = np.linalg.norm(found.positions[RAMP - 1] - found.positions[RAMP - 2], axis=-1)
    assert jump == pytest.approx(before, abs=0.03), "2 fs change a velocity little"

    labels = calculation.outcome.frames
    assert [calculation.calculations.count(step) for step in ("ramp", "nvt")] == [4, 6], "every 25 steps, and the last"
    assert set(calculation.scales) == {"pbe/gamma/vasp"}
    assert calculation.correction_per_atom is None
    for frame in labels:
        row = int(np.argmin(np.abs(found.frac_coords - frame.crystal.frac_coords).sum((1, 2))))
        assert frame.energy == pytest.approx(found.energies[row])
        assert np.array_equal(frame.forces, found.forces[row])


@pytest.mark.parametrize(
    ("fault", "reason", "known_to_have_ended"),
    [("killed", "crashed", True), ("killed", "crashed", False), ("wall_time", "wall_time", True)],
    ids=["crashed", "stale", "out of time"],
)
def test_a_run_that_was_cut_off_goes_on_with_its_velocities(
    fault, reason, known_to_have_ended, vasp_environment, tmp_path, monkeypatch
):
    monkeypatch.setenv("STANDIN_FAULTS", f"{fault}:1")
    limit = {"wall_time": 12 if fault == "wall_time" else 60}
    job, _ = run(vasp_environment, tmp_path / "jobs", **limit)
    assert job.ending.reason == reason
    left = read_dynamics(job.attempts[-1].folder / "ramp")
    assert 0 < len(left) <= RAMP // 2
    if known_to_have_ended:
        job.request()
    else:
        (job.attempts[-1].folder / "end.json").unlink()  # as if all of it had been killed at once
        claim = job.attempts[-1].folder / "claim.json"
        claim.write_text(re.sub('"start": "[0-9]*"', '"start": "1"', claim.read_text()))
    monkeypatch.delenv("STANDIN_FAULTS")
    job, _ = run(vasp_environment, tmp_path / "jobs", wall_time=60)
    assert job.state is State.CONVERGED
    ramp = job.folder / job.ending.steps["ramp"]
    assert sorted(path.name for path in ramp.glob("vasprun*")) == ["vasprun.1.xml.gz", "vasprun.xml.gz"]
    found = read_dynamics(ramp)
    assert len(found) == RAMP
    assert np.array_equal(found.positions[: len(left)], left.positions), "nothing is computed twice"
    assert largest_move(found) < 0.3, "a step that had not been written yet is missing, no more"


def test_a_run_that_had_its_last_step_is_not_run_again(vasp_environment, tmp_path, monkeypatch):
    job, _ = run(vasp_environment, tmp_path / "jobs")
    attempt = job.attempts[-1].folder
    (attempt / "end.json").unlink()
    (attempt / "nvt" / "done.json").unlink()
    job.request()
    monkeypatch.setenv("STANDIN_FAULTS", "crash:9")
    job, _ = run(vasp_environment, tmp_path / "jobs")
    assert job.state is State.CONVERGED
    assert len(dynamics_of(job)) == RAMP + HELD


def test_what_the_step_before_left_without_velocities_is_told(vasp_environment, tmp_path):
    engine = make_engine("vasp", settings(vasp_environment))
    previous = tmp_path / "ramp"
    previous.mkdir()
    (previous / "CONTCAR").write_text("salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nLi F\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n")
    with pytest.raises(StepFailed, match="ramp/CONTCAR has no velocities"):
        engine.run("nvt", SALT, previous, tmp_path / "nvt")


def test_velocities_are_all_there_or_count_for_nothing():
    places = "salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nLi F\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
    whole = f"{places}\n1e-3 0 0\n0 1e-3 0\n\n1\n0.2E+01\n"
    assert has_velocities(whole)
    assert not has_velocities(whole[: whole.index("0 1e-3")])
    assert not has_velocities(whole[: whole.index("Direct")])
    assert not has_velocities("")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_was_cut_off_counts_up_to_there(compressed, tmp_path):
    steps = [Step(-1.0 - i, -1.0 - i, (-1.0 - i, -1.5 - i), force=0.1 * i) for i in range(20)]
    path = write_run(tmp_path, steps, NSW=40, IBRION=0, POTIM=2.0) / "vasprun.xml"
    text = path.read_text()
    text = text[: text.rindex("<calculation>") + 300]
    path.write_text(text)
    if compressed:
        data = gzip.compress(text.encode(), mtime=0)
        path.unlink()
        (tmp_path / "vasprun.xml.gz").write_bytes(data[:-30])
    found = read_dynamics(tmp_path)
    assert len(found) >= (1 if compressed else 19)
    assert found.energies[0] == -1.5, "sigma -> 0"
    assert found.timestep == 2.0
    assert found.forces[1, 0] == pytest.approx([0.1, 0, 0])


def test_electrons_that_did_not_converge_make_no_label(tmp_path):
    steps = [Step(-1.0, -1.0, (-1.0, -1.0))] * 9
    path = write_run(tmp_path, steps, NELM=3, NSW=9, IBRION=0, POTIM=2.0) / "vasprun.xml"
    found = read_dynamics(tmp_path)
    assert len(found) == 9
    assert found.frames(2) == []
    path.write_text(path.read_text().replace('name="NELM">     3', 'name="NELM">     4'))
    assert [frame.step for frame in read_dynamics(tmp_path).frames(3)] == [0, 3, 6, 8]


def test_what_is_no_run_or_of_another_cell_is_refused(tmp_path):
    with pytest.raises(OutputError, match="no step of molecular dynamics"):
        read_dynamics(tmp_path)
    step = Step(-1.0, -1.0, (-1.0, -1.0))
    one = read_dynamics(write_run(tmp_path / "one", [step], NSW=9, IBRION=0, POTIM=2.0))
    other = read_dynamics(write_run(tmp_path / "other", [step], NSW=9, IBRION=0, POTIM=1.0))
    assert len(joined([one, one], "here")) == 2
    with pytest.raises(OutputError, match="not of one cell"):
        joined([one, other], "here")


def test_flows_refuse_what_they_cannot_continue(vasp_environment, tmp_path):
    with pytest.raises(SubmitError, match="use Slurm"):
        submit_flows(JobFolders(tmp_path), ["ab"], "vasp", settings(vasp_environment), None, None)
