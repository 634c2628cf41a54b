"""What a first-principles engine is, and what becomes of one attempt at a job: calculation after calculation ("steps"),
each in a folder of its own, each starting from the crystal that the one before ended with."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from dft.jobs.folders import UNREADABLE, Attempt, Ending, Job, JobFolder, State, create_json, end_attempt
from gnome_core.compositions.formulas import SYMBOLS, composition_key, reduced_formula
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.errors import GnomeError
from gnome_core.potentials.relax import Frame, Relaxation, RelaxationFailure

# A relaxation that ended so goes on from its last geometry when it is asked for again.
UNFINISHED = ("not_converged", "wall_time")

DAMAGED_JOB = "damaged_job"
# Files that a program did not leave, or left where others belong: the job's fault, while its folder is there.
OF_THE_JOB = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


class EngineMissing(GnomeError):
    """The engine cannot run here at all; the message says what to do."""


class StepFailed(Exception):
    """A calculation that gave no usable result. reason: a short snake_case name that failures are counted by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class OutputError(GnomeError, ValueError):
    """Output that cannot be read: missing, truncated, or of another crystal. Counted by `reason` as a dead letter."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class Correction(NamedTuple):
    """What a scheme adds to an energy, eV/atom. version: the scheme, its options and the code that computed it."""

    per_atom: float
    version: str


@dataclass(frozen=True)
class StepResult:
    """What one calculation gave.

    frames: its ionic steps, the last one being where it ended. failure: why it does not count as converged, or "".
    magmoms: (n,) Bohr magnetons, zero without spin. magnetization: Bohr magnetons per cell. band_gap: eV.
    fixes: what was changed on the way to make it converge. settings_changed: whether a fix changed what is computed,
    not only how. parameters: what corrections need to know of the run. scale: of the frames' energies; None where they
    are no labels, as those of a state that is not self-consistent.
    """

    frames: list[Frame]
    failure: str = ""
    message: str = ""
    magmoms: np.ndarray | None = None
    magnetization: float | None = None
    band_gap: float | None = None
    fixes: tuple[str, ...] = ()
    settings_changed: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scale: str | None = None

    @property
    def crystal(self) -> Crystal:
        return self.frames[-1].crystal


@dataclass(frozen=True)
class Calculation:
    """What a whole job gave.

    calculations, scales: the step and the energy scale of each frame of `outcome`; the rest as in StepResult and
    Correction.
    """

    outcome: Relaxation | RelaxationFailure
    calculations: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    attempt: int | None = None
    magnetization: float | None = None
    band_gap: float | None = None
    fixes: tuple[str, ...] = ()
    settings_changed: bool | None = None
    correction_per_atom: float | None = None
    correction_version: str | None = None


class Engine(Protocol):
    """A program that evaluates jobs in folders. scale, protocol: as in `dft.evaluators.evaluator.Evaluator`."""

    name: str
    scale: str

    @property
    def steps(self) -> Sequence[str]: ...

    @property
    def protocol(self) -> Mapping[str, object]: ...

    def inputs(self, crystal: Crystal) -> dict[str, bytes]:
        """The first step's input files, for people and for those who run jobs in their own way."""
        ...

    def check(self) -> None:
        """Raises EngineMissing unless jobs can be run here."""
        ...

    def library_problem(self) -> str | None:
        """Why there is no library of potentials here at all, with the remedy."""
        ...

    def missing(self, symbol: str) -> str | None:
        """What the library of potentials lacks for this element, with the remedy."""
        ...

    def doubt(self, symbol: str) -> str | None:
        """Why results with this element's potential are doubtful."""
        ...

    def run(self, step: str, crystal: Crystal, previous: Path | None, folder: Path, left: Sequence[Path] = ()) -> None:
        """Run one step in the folder. previous: that of the step before. left: where earlier attempts left this step
        before its end, the newest first. Raises StepFailed."""
        ...

    def read(self, step: str, folder: Path) -> StepResult:
        """The step's output. Raises OutputError."""
        ...

    def flow(self, job: Job) -> bytes:
        """The job as a jobflow Flow in JSON. Raises EngineMissing where there is none."""
        ...

    def energy_step(self) -> str:
        """The step whose last energy is the job's."""
        ...

    def correction(self, result: StepResult) -> Correction | None:
        """What is to be added to the energy of the energy step; None on a scale without corrections."""
        ...


def job_files(job: Job, engine: Engine, flow: bool = False) -> dict[str, bytes]:
    """Everything in a fresh job folder, by relative path. flow: with the whole job as an atomate2 flow, flow.json."""
    steps = ", ".join(engine.steps)
    readme = (
        f"{reduced_formula(job.crystal.numbers)}, {job.crystal.n_sites} atoms: {steps} with {engine.name} on "
        f"{engine.scale}; inputs/ has the first step's files. Run it with `gnome dft run`.\n"
    )
    inputs = {f"inputs/{name}": content for name, content in engine.inputs(job.crystal).items()}
    flows = {"flow.json": engine.flow(job)} if flow else {}
    return {"job.json": job.to_json(), "README": readme.encode(), **inputs, **flows}


def run_attempt(folder: JobFolder, attempt: Attempt, engine: Engine) -> Ending:
    """Run a claimed attempt to its end and write that down.

    Steps that earlier attempts finished are taken over. Whatever goes wrong with the job ends it by a reason, so that
    it stops no other; what is wrong with the machine (OSError, a full disk apart) is raised and ends nothing.
    """
    start, steps = time.monotonic(), {}
    try:
        energy = _run_steps(folder, attempt, engine, steps)
        ending = Ending(State.CONVERGED, energy_per_atom=energy)
    except (StepFailed, InvalidCrystal) as error:
        ending = Ending(State.FAILED, error.reason, str(error))
    except OutputError as error:
        reason = error.reason if error.reason == DAMAGED_JOB else "invalid_output"
        ending = Ending(State.FAILED, reason, str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = f"no space left for {attempt.folder}; free some, then retry the job"
            ending = Ending(State.FAILED, "no_space", text)
        elif isinstance(error, OF_THE_JOB) and folder.folder.is_dir():
            ending = _unexpected(attempt, error)
        else:
            raise
    except Exception as error:  # of pymatgen, ASE or custodian, at the files of this job
        ending = _unexpected(attempt, error)
    ending = replace(ending, steps=steps, seconds=round(time.monotonic() - start, 2))
    end_attempt(attempt, ending)
    return ending


def _unexpected(attempt: Attempt, error: Exception) -> Ending:
    traceback.print_exception(error)
    text = f"{attempt.folder}: {_in_a_line(error)}; the log has the whole of it"
    return Ending(State.FAILED, "unexpected_error", text)


def _run_steps(folder: JobFolder, attempt: Attempt, engine: Engine, steps: dict[str, str]) -> float:
    """Run what is left to run; fills `steps` as it goes and returns the energy, eV/atom."""
    crystal, previous, energy = _asked(folder), None, float("nan")
    check_crystal(crystal)
    lacking = engine.library_problem() or next(filter(None, map(engine.missing, _symbols(crystal))), None)
    if lacking:
        raise StepFailed("missing_potential", lacking)
    earlier = [old for old in folder.attempts if old.number < attempt.number and old.state is not State.CONVERGED]
    for step in engine.steps:
        path = next(
            (old.folder / step for old in reversed(earlier) if (old.folder / step / "done.json").exists()), None
        )
        if path is None:
            path = attempt.folder / step
            steps[step] = str(path.relative_to(folder.folder))
            left = [old.folder / step for old in reversed(earlier) if (old.folder / step).is_dir()]
            engine.run(step, _continued(engine, step, earlier) or crystal, previous, path, left)
        steps[step] = str(path.relative_to(folder.folder))
        result = read_step(engine, step, path, crystal)
        if result.failure:
            raise StepFailed(result.failure, result.message)
        create_json(path / "done.json", {"attempt": attempt.number})
        crystal, previous = result.crystal, path
        if step == engine.energy_step():
            energy = float(result.frames[-1].energy) / crystal.n_sites
    return energy


def _asked(folder: JobFolder) -> Crystal:
    """The job's crystal. Raises OutputError (damaged_job) for a job.json that is not whole."""
    try:
        return folder.job.crystal
    except UNREADABLE as error:
        raise OutputError(DAMAGED_JOB, f"{folder.folder}/job.json: {_in_a_line(error)}; emit the job again") from error


def _symbols(crystal: Crystal) -> list[str]:
    return [SYMBOLS[z] for z in sorted(set(crystal.numbers.tolist()))]


def _continued(engine: Engine, step: str, earlier: Sequence[Attempt]) -> Crystal | None:
    """Where the newest attempt left a relaxation that ran out of steps or time."""
    ending = earlier[-1].ending if earlier else None
    if ending is None or ending.reason not in UNFINISHED:
        return None
    try:
        frames = _read(engine, step, earlier[-1].folder / step).frames
    except OutputError:
        return None
    return frames[-1].crystal if frames else None


def read_step(engine: Engine, step: str, folder: Path, asked: Crystal) -> StepResult:
    """`engine.read`, with a check that the output is of the crystal that was asked for. Raises OutputError."""
    result = _read(engine, step, folder)
    check_output_of(result, folder, asked)
    return result


def _read(engine: Engine, step: str, folder: Path) -> StepResult:
    """`engine.read`; whatever a parser raises at the files is an OutputError."""
    try:
        return engine.read(step, folder)
    except OutputError:
        raise
    except Exception as error:
        raise OutputError("unreadable_output", f"{folder}: {_in_a_line(error)}; look at its files") from error


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def check_output_of(result: StepResult, folder: Path, asked: Crystal) -> None:
    """Raises OutputError where there is no frame, or one of another composition."""
    if not result.frames:
        raise OutputError("truncated_output", f"{folder} holds no ionic step; run the job again")
    if composition_key(result.crystal.numbers) != composition_key(asked.numbers):
        found, wanted = reduced_formula(result.crystal.numbers), reduced_formula(asked.numbers)
        raise OutputError("foreign_output", f"{folder} is of {found}, not of {wanted}; put the right files there")


def read_job(folder: JobFolder, engine: Engine) -> Calculation | None:
    """The lowest converged attempt, else the newest failure; None while there is neither.

    Raises OutputError for a converged job whose files cannot be read.
    """
    endings = [(attempt, attempt.ending) for attempt in folder.attempts if attempt.ending]
    converged = [(a, e) for a, e in endings if e.state is State.CONVERGED]
    if not converged:
        return _read_failure(folder, *endings[-1], engine) if folder.state is State.FAILED else None
    attempt, ending = min(converged, key=lambda pair: (pair[1].energy_per_atom, pair[0].number))
    asked = _asked(folder)
    results = {
        step: read_step(engine, step, folder.folder / ending.steps[step], asked)
        for step in engine.steps  # those of an ending are in the order of their names
        if step in ending.steps
    }
    energy_step = results[engine.energy_step()]
    # The energy that counts comes last, whatever was computed after it.
    order = [step for step in results if step != engine.energy_step()] + [engine.energy_step()]
    frames, calculations, scales = _joined({step: results[step] for step in order})
    magmoms = energy_step.magmoms
    gaps = [result.band_gap for result in results.values() if result.band_gap is not None]
    try:
        correction = engine.correction(energy_step)
    except OutputError:
        raise
    except Exception as error:
        raise OutputError("no_correction", f"{folder.folder}: {_in_a_line(error)}") from error
    return Calculation(
        Relaxation(frames, np.zeros(energy_step.crystal.n_sites) if magmoms is None else magmoms),
        calculations,
        scales,
        attempt.number,
        energy_step.magnetization,
        gaps[-1] if gaps else None,  # the protocol's last word on it: along the lines where they were computed
        tuple(f"{step}: {fix}" for step, result in results.items() for fix in result.fixes),
        any(result.settings_changed for result in results.values()),
        correction.per_atom if correction else None,
        correction.version if correction else None,
    )


def _read_failure(folder: JobFolder, attempt: Attempt, ending: Ending, engine: Engine) -> Calculation:
    """A failed job with whatever frames it left."""
    found: dict[str, StepResult] = {}
    for step in filter(ending.steps.__contains__, engine.steps):
        try:
            found[step] = read_step(engine, step, folder.folder / ending.steps[step], _asked(folder))
        except OutputError:
            continue
    frames, calculations, scales = _joined(found)
    fixes = tuple(f"{step}: {fix}" for step, result in found.items() for fix in result.fixes)
    failure = RelaxationFailure(ending.reason, ending.message, frames)
    return Calculation(failure, calculations, scales, attempt.number, fixes=fixes)


def _joined(results: Mapping[str, StepResult]) -> tuple[list[Frame], tuple[str, ...], tuple[str, ...]]:
    """All frames that are labels, numbered through, with the step and the energy scale of each."""
    rows = [(step, result.scale, frame) for step, result in results.items() if result.scale for frame in result.frames]
    frames = [replace(frame, step=number) for number, (_, _, frame) in enumerate(rows)]
    return frames, tuple(step for step, _, _ in rows), tuple(scale for _, scale, _ in rows)


# Programs


def tied(command: Sequence[str], sign: str = "KILL") -> list[str]:
    """The command, ended by the system when this process dies, however it dies (Linux; elsewhere as it is)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", sign, *command] if setpriv else list(command)


def find_program(command: Sequence[str], remedy: str) -> str:
    """Path of the program that a command starts. Raises EngineMissing with the remedy."""
    found = shutil.which(command[0]) if command else None
    if found is None:
        name = command[0] if command else "an empty command"
        raise EngineMissing(f"{name} is not on PATH; {remedy}")
    return found


def kill_group(process: subprocess.Popen) -> None:
    """End a process and its children, started in a session of their own."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
    process.wait()
