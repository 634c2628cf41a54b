"""Attempts at a job with an engine that needs no program: what is taken over, what fails how, what is read back."""

import errno

import pytest

from dft.jobs.engine import OutputError, StepFailed, job_files, read_job, run_attempt
from dft.jobs.folders import Ending, Job, JobFolder, JobFolders, State, create_json, end_attempt
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Relaxation, RelaxationFailure
from tests.dft.toy import START, Toy


@pytest.fixture
def folders(tmp_path) -> JobFolders:
    return JobFolders(tmp_path)


def emitted(folders: JobFolders, crystal: Crystal = START) -> JobFolder:
    job = Job("ab" + "0" * 30, crystal, "toy", "{}")
    folders.emit({job.id: job_files(job, Toy())})
    return folders[job.id]


def run(folders: JobFolders, engine: Toy) -> Ending:
    folder = emitted(folders)
    attempt = folder.claim()
    return run_attempt(folder, attempt, engine)


def test_every_step_starts_where_the_one_before_ended(folders):
    engine = Toy()
    ending = run(folders, engine)
    assert ending.state is State.CONVERGED
    assert engine.ran == [("relax1", 64.0, None), ("relax2", 70.4, "relax1"), ("static", 77.44, "relax2")]
    calculation = read_job(emitted(folders), engine)
    assert isinstance(calculation.outcome, Relaxation)
    assert calculation.outcome.energy_per_atom == ending.energy_per_atom == pytest.approx(-42.592)
    assert calculation.calculations == ("relax1",) * 2 + ("relax2",) * 2 + ("static",) * 2
    assert [frame.step for frame in calculation.outcome.frames] == list(range(6))
    assert (calculation.fixes, calculation.correction_per_atom) == (("relax2: mended",), 0.25)


@pytest.mark.parametrize(
    ("script", "reason", "frames"),
    [
        ({"relax2": StepFailed("crashed", "bang")}, "crashed", 2),
        ({"relax2": "not_converged"}, "not_converged", 4),
        ({"static": "foreign"}, "invalid_output", 4),
        ({"lacks": "O"}, "missing_potential", 0),
        ({"relax1": OSError(errno.ENOSPC, "full")}, "no_space", 0),
    ],
)
def test_failures_have_a_reason_and_keep_their_frames(folders, script, reason, frames):
    ending = run(folders, Toy(**script))
    assert (ending.state, ending.reason) == (State.FAILED, reason)
    assert ending.message
    calculation = read_job(emitted(folders), Toy())
    assert isinstance(calculation.outcome, RelaxationFailure)
    assert (calculation.outcome.reason, len(calculation.outcome.frames)) == (reason, frames)


def test_overlapping_atoms_never_reach_the_program(folders):
    job = Job("cd" + "0" * 30, Crystal(START.lattice, [[0, 0, 0], [0.025, 0, 0]], [12, 8]), "toy", "{}")
    folders.emit({job.id: job_files(job, Toy())})
    folder, engine = folders[job.id], Toy()
    ending = run_attempt(folder, folder.claim(), engine)
    assert (ending.reason, engine.ran) == ("overlapping_atoms", [])
    assert "0.100 Å" in ending.message


def test_an_infrastructure_error_ends_nothing(folders):
    with pytest.raises(PermissionError):
        run(folders, Toy(relax1=PermissionError("the disk went away")))
    assert emitted(folders).ending is None


def test_steps_that_a_dead_attempt_finished_are_taken_over(folders, monkeypatch):
    folder = emitted(folders)
    first = folder.claim()
    Toy().run("relax1", START, None, first.folder / "relax1")
    create_json(first.folder / "relax1" / "done.json", {"attempt": 1})
    (first.folder / "claim.json").write_text('{"host": "x", "boot": "", "pid": 1, "start": "1"}')
    monkeypatch.setattr("dft.jobs.folders.STALE_AFTER", -1.0)
    engine = Toy()
    folder = emitted(folders)
    ending = run_attempt(folder, folder.claim(), engine)
    assert [step for step, *_ in engine.ran] == ["relax2", "static"]
    assert ending.steps["relax1"] == "attempts/01/relax1"
    whole = Toy()
    other = JobFolders(folders.root / "other")
    assert run(other, whole).energy_per_atom == ending.energy_per_atom


def test_a_relaxation_that_ran_out_goes_on_from_its_last_geometry_when_asked_again(folders):
    run(folders, Toy(relax2="not_converged"))
    emitted(folders).request()
    engine = Toy()
    run(folders, engine)
    assert engine.ran[0] == ("relax2", 77.44, "relax1")


def test_of_several_converged_attempts_the_lowest_counts(folders):
    run(folders, Toy())
    emitted(folders).request()
    folder = emitted(folders)
    second = folder.claim()
    assert read_job(emitted(folders), Toy()).attempt == 1, "the first result stands while another is computed"
    end_attempt(second, Ending(State.CONVERGED, steps=folder.attempts[0].ending.steps, energy_per_atom=-50.0))
    assert read_job(emitted(folders), Toy()).attempt == 2


def test_a_converged_job_whose_files_are_damaged_cannot_be_read(folders):
    run(folders, Toy())
    (emitted(folders).folder / "attempts/01/static/OUT").write_text("")
    with pytest.raises(OutputError):
        read_job(emitted(folders), Toy())


def test_a_job_under_way_has_no_result(folders):
    assert read_job(emitted(folders), Toy()) is None
    emitted(folders).claim()
    assert read_job(emitted(folders), Toy()) is None
