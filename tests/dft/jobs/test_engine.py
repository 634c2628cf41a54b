"""Attempts at a job with an engine that needs no program: what is taken over, what fails how, what is read back."""

import errno
from dataclasses import replace
from typing import ClassVar

import pytest

from dft.jobs.engine import OutputError, StepFailed, job_files, read_job, run_attempt
from dft.jobs.folders import Ending, Job, JobFolder, JobFolders, State, create_json, end_attempt
from dft.tables import frame_batch, result_batch
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


@pytest.mark.parametrize(
    "error", [KeyError("TOTEN"), ZeroDivisionError(), RuntimeError("spglib"), FileNotFoundError("OUT")]
)
def test_whatever_a_program_or_parser_raises_ends_its_own_job_by_a_reason(error, folders):
    ending = run(folders, Toy(relax2=error))
    assert (ending.state, ending.reason) == (State.FAILED, "unexpected_error")
    assert type(error).__name__ in ending.message
    assert "\n" not in ending.message
    assert len(read_job(emitted(folders), Toy()).outcome.frames) == 2, "the steps before are kept"


@pytest.mark.parametrize(
    "error", [KeyError("TOTEN"), AttributeError("no structure"), PermissionError("OUT"), EOFError()]
)
def test_whatever_a_reader_raises_is_unreadable_output(error, folders, monkeypatch):
    def poisoned(self, step, folder):
        if step == "relax2":
            raise error
        return Toy.read(self, step, folder)

    class Poisoned(Toy):
        read = poisoned

    ending = run(folders, Poisoned())
    assert (ending.state, ending.reason) == (State.FAILED, "invalid_output")
    assert type(error).__name__ in ending.message
    calculation = read_job(emitted(folders), Poisoned())
    assert (calculation.outcome.reason, len(calculation.outcome.frames)) == ("invalid_output", 2)
    emitted(folders).request()
    run(folders, Toy())
    with pytest.raises(OutputError, match="relax2") as caught:
        read_job(emitted(folders), Poisoned())
    assert caught.value.reason == "unreadable_output"


@pytest.mark.parametrize("text", ["", "[]", '{"lattice": 3}', '{"state": "gone"}', "\x00\x01"])
def test_damaged_records_of_a_job_stop_no_other(text, folders):
    run(folders, Toy())
    folder = emitted(folders)
    (folder.folder / "attempts/01/end.json").write_text(text)
    folder = emitted(folders)
    assert (folder.state, folder.ending.reason) == (State.FAILED, "damaged_record")
    assert "end.json is damaged" in folder.ending.message
    attempt = folder.request()
    assert emitted(folders).state is State.EMITTED
    (attempt.folder / "claim.json").write_text(text)
    assert emitted(folders).state is State.STALE, "and can be taken up again"
    (folder.folder / "job.json").write_text(text)
    folder = emitted(folders)
    ending = run_attempt(folder, folder.claim(), Toy())
    assert (ending.state, ending.reason) == (State.FAILED, "damaged_job")


class Stepwise(Toy):
    """An engine each of whose steps says something else: its gap, its energy, its scale."""

    steps = ("wide", "relax2", "static", "lines")
    gaps: ClassVar = {"static": 2.0, "lines": 1.0}
    scales: ClassVar = {"wide": "gga", "relax2": "toy", "static": "toy", "lines": None}

    def read(self, step, folder):
        result = super().read(step, folder)
        frames = [replace(frame, energy=-float(10 + self.steps.index(step))) for frame in result.frames]
        return replace(result, frames=frames, band_gap=self.gaps.get(step), scale=self.scales[step])


def test_every_step_speaks_for_itself(folders):
    """The gap is the last one's of the protocol, frames have their own scales, states that are no labels give none."""
    engine = Stepwise()
    assert run(folders, engine).energy_per_atom == -6.0
    calculation = read_job(emitted(folders), engine)
    assert calculation.band_gap == 1.0
    assert calculation.calculations == ("wide",) * 2 + ("relax2",) * 2 + ("static",) * 2
    assert calculation.scales == ("gga",) * 2 + ("toy",) * 4
    assert [frame.energy for frame in calculation.outcome.frames] == [-10, -10, -11, -11, -12, -12]
    assert calculation.outcome.energy_per_atom == -6.0
    assert (calculation.correction_per_atom, calculation.correction_version) == (0.25, "toy/1")
    batch = frame_batch(["job"], [calculation.outcome], "toy", [calculation])
    assert batch["scale"].to_pylist() == ["gga"] * 2 + ["toy"] * 4
    assert batch["step"].to_pylist() == list(range(6))
    row = result_batch(["job"], [START], [calculation.outcome], "toy", [calculation]).to_pylist()[0]
    assert (row["band_gap"], row["correction_version"], row["scale"]) == (1.0, "toy/1", "toy")


def test_a_failed_job_keeps_the_frames_of_its_steps_in_their_order(folders):
    run(folders, Stepwise(lines="not_converged"))
    calculation = read_job(emitted(folders), Stepwise())
    assert calculation.scales == ("gga",) * 2 + ("toy",) * 4
    assert calculation.calculations[:2] == ("wide", "wide")


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
