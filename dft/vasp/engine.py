"""VASP as an engine: GNoME's protocol (`dft.protocol`), every calculation under custodian."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dft.config import VaspConfig
from dft.jobs.engine import (
    Correction,
    EngineMissing,
    OutputError,
    StepFailed,
    StepResult,
    find_program,
    kill_group,
    tied,
)
from dft.jobs.folders import Job
from dft.jobs.outputs import compress, find, read_text
from dft.protocol import ENERGY_STEP, VASP_SCALES
from dft.vasp.dynamics import has_velocities, read_dynamics, take_over
from dft.vasp.inputs import (
    MissingPotcar,
    library_problem,
    potcar_of,
    potcar_single,
    protocol_hash,
    step_files,
    vasp_steps,
)
from dft.vasp.outputs import failure_of, mp2020_correction, read_custodian, read_vasp
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal

KEPT = ("vasprun.xml", "OUTCAR", "CONTCAR", "OSZICAR", "INCAR", "KPOINTS", "POSCAR", "custodian.json")
CARRIED = ("CHGCAR", "WAVECAR")  # what a later step may start from
DROPPED = ("CHG", "PROCAR", "DOSCAR", "EIGENVAL", "XDATCAR", "PCDAT", "REPORT", "POTCAR", "POTCAR.orig")


class VaspEngine:
    """See `dft.jobs.engine.Engine`. wall_time: seconds for one step. max_errors: corrections of one step."""

    name = "vasp"

    def __init__(self, config: VaspConfig, wall_time: int | None = None, max_errors: int = 5):
        self.config, self.wall_time, self.max_errors = config, wall_time, max_errors
        self.scale = VASP_SCALES[config.protocol]
        self._steps = {step.name: step for step in vasp_steps(config)}
        self.steps = tuple(self._steps)

    @property
    def protocol(self) -> Mapping[str, object]:
        return {
            "evaluator": self.name,
            "scale": self.scale,
            "protocol": self.config.protocol,
            "inputs": protocol_hash(vasp_steps(self.config)),
        }

    def inputs(self, crystal: Crystal) -> dict[str, bytes]:
        first = vasp_steps(self.config)[0]
        files = step_files(first, to_structure(crystal))
        return {f"{first.name}/{name}": content for name, content in files.items()}

    def check(self) -> None:
        if importlib.util.find_spec("custodian") is None:
            raise EngineMissing("running VASP needs custodian: pip install 'gnome-flywheel[dft]'")
        find_program(shlex.split(self.config.command), "load its module or set dft.vasp.command")

    def library_problem(self) -> str | None:
        return library_problem()

    def missing(self, symbol: str) -> str | None:
        try:
            for step in vasp_steps(self.config):
                potcar_single(*potcar_of(step, symbol))
        except MissingPotcar as error:
            return str(error)
        return None

    def doubt(self, symbol: str) -> str | None:
        if symbol != "Yb":
            return None
        return "Yb is computed with Yb_2, which is wrong for Yb3+ (pymatgen#2968); take results with Yb with care"

    def flow(self, job: Job) -> bytes:
        from dft.vasp.flows import flow_json

        return flow_json(job, self.config, self.wall_time, self.max_errors)

    def energy_step(self) -> str:
        return ENERGY_STEP if ENERGY_STEP in self._steps else self.steps[-1]

    def correction(self, result: StepResult) -> Correction | None:
        return mp2020_correction(result) if "mp2020" in self.scale else None

    def run(self, step: str, crystal: Crystal, previous: Path | None, folder: Path, left: Sequence[Path] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        what, poscar = self._steps[step], None
        if what.dynamics and (found := next(filter(None, (take_over(path, folder) for path in left)), None)):
            n_steps, poscar = found
            if n_steps >= what.settings["nsteps"]:  # it was ended after its last step
                (folder / "CONTCAR").write_text(poscar)
                return
            what = replace(what, settings={**what.settings, "nsteps": what.settings["nsteps"] - n_steps})
        elif what.dynamics and previous:
            poscar = _velocities_of(previous)
        try:
            files = step_files(what, to_structure(crystal), previous, potcar=True)
        except MissingPotcar as error:
            raise StepFailed("missing_potential", str(error)) from None
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if poscar is not None:
            (folder / "POSCAR").write_text(poscar)
        for name in what.copies:
            if previous and (previous / name).is_file():
                shutil.copy(previous / name, folder / name)
        try:
            self._run_custodian(folder, what.dynamics)
        finally:
            _drop(folder, DROPPED)
            compress(folder, [*KEPT, *(path.name for path in folder.glob("vasprun.*.xml"))])
        if previous:
            _drop(previous, CARRIED)  # they have served
        if step == self.steps[-1]:
            _drop(folder, CARRIED)

    def _run_custodian(self, folder: Path, dynamics: bool) -> None:
        from custodian import Custodian
        from custodian.custodian import (
            CustodianError,
            MaxCorrectionsError,
            MaxCorrectionsPerHandlerError,
            MaxCorrectionsPerJobError,
            NonRecoverableError,
            ValidationError,
        )
        from custodian.vasp.jobs import VaspJob

        command = shlex.split(self.config.command)
        try:
            find_program(command, "load its module or set dft.vasp.command")
        except EngineMissing as error:
            raise StepFailed("engine_missing", str(error)) from None
        job = VaspJob(
            tied(command), gamma_vasp_cmd=tied(shlex.split(self.config.gamma_command)), auto_npar=False, backup=False
        )
        handlers, validators = _handlers(self.wall_time, dynamics)
        custodian = Custodian(
            handlers,
            [job],
            validators,
            max_errors=self.max_errors,
            polling_time_step=self.config.polling,
            monitor_freq=max(1, round(_monitor_interval(self.wall_time) / self.config.polling)),
            directory=str(folder),
        )
        try:
            with _alarm(self.wall_time, folder):
                custodian.run()
        except (MaxCorrectionsError, MaxCorrectionsPerJobError, MaxCorrectionsPerHandlerError) as error:
            raise StepFailed("too_many_errors", f"{folder}: {error} ({_last_errors(custodian)})") from None
        except NonRecoverableError as error:
            raise StepFailed("unfixable", f"{folder}: {error} ({_last_errors(custodian)})") from None
        except ValidationError as error:
            raise _crash(folder, str(error)) from None
        except CustodianError as error:
            raise _crash(folder, str(error)) from None
        finally:
            process = getattr(job, "_vasp_process", None)
            if process is not None:
                kill_group(process)

    def read(self, step: str, folder: Path) -> StepResult:
        if self._steps[step].dynamics:
            return self._read_dynamics(step, folder)
        result = read_vasp(folder, bands=step in (ENERGY_STEP, "bands"))
        return replace(result, scale=self._steps[step].scale or self.scale if self._steps[step].labels else None)

    def _read_dynamics(self, step: str, folder: Path) -> StepResult:
        run = read_dynamics(folder)
        fixes, changed, over = read_custodian(folder)
        failure, message = failure_of(True, len(run) >= self._steps[step].settings["nsteps"], over, folder)
        frames = run.frames(self.config.aimd.label_every)
        return StepResult(
            frames,
            failure,
            message,
            magnetization=0.0,
            fixes=fixes,
            settings_changed=changed,
            parameters=run.parameters,
            scale=self.scale,
        )


def _velocities_of(previous: Path) -> str:
    """The CONTCAR of the step before. Raises StepFailed where it has no velocities, or is not whole."""
    try:
        contcar = read_text(find(previous, "CONTCAR"))
    except OutputError as error:
        raise StepFailed(error.reason, str(error)) from None
    if not has_velocities(contcar):
        raise StepFailed("invalid_output", f"{previous}/CONTCAR has no velocities to go on with; run the job again")
    return contcar


def _drop(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _monitor_interval(wall_time: int | None) -> float:
    """Seconds between custodian's looks into the files of a running VASP: its own 300, more often if time is short."""
    return min(300.0, wall_time / 10) if wall_time else 300.0


def _handlers(wall_time: int | None, dynamics: bool) -> tuple[list, list]:
    """(error handlers, validators): atomate2's, and one for the wall time where it is limited.

    dynamics: without those that take a moving crystal for one that does not come to rest, or change what moves it.
    """
    from custodian.vasp import handlers, validators

    checks = [validators.VaspFilesValidator()]
    moving: list = [
        handlers.VaspErrorHandler(),
        handlers.MeshSymmetryErrorHandler(),
        handlers.FrozenJobErrorHandler(),
        handlers.StdErrHandler(),
    ]
    resting: list = [
        handlers.VaspErrorHandler(),
        handlers.MeshSymmetryErrorHandler(),
        handlers.UnconvergedErrorHandler(),
        handlers.NonConvergingErrorHandler(),
        handlers.PotimErrorHandler(),
        handlers.PositiveEnergyErrorHandler(),
        handlers.FrozenJobErrorHandler(),
        handlers.StdErrHandler(),
        handlers.LargeSigmaHandler(),
        handlers.IncorrectSmearingHandler(),
        handlers.KspacingMetalHandler(),
    ]
    chosen = moving if dynamics else resting
    if wall_time:
        os.environ.pop("CUSTODIAN_WALLTIME_START", None)  # of an earlier calculation of this process
        chosen.append(handlers.WalltimeHandler(wall_time=wall_time, buffer_time=min(300, wall_time // 5)))
    if not dynamics:  # a whole run of dynamics is read as a stream, once
        checks.append(validators.VasprunXMLValidator())
    return chosen, checks


@contextmanager
def _alarm(seconds: int | None, folder: Path) -> Generator[None]:
    """Raise StepFailed when the time is over, for a VASP that does not heed custodian's STOPCAR."""

    def ring(*_: object) -> None:
        raise StepFailed("wall_time", f"{folder}: VASP did not stop within {seconds} s")

    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _last_errors(custodian) -> str:
    corrections = [c for run in custodian.run_log for c in run["corrections"]]
    return ", ".join(str(error) for error in corrections[-1]["errors"]) if corrections else "no correction was found"


def _crash(folder: Path, message: str) -> StepFailed:
    said = "".join(
        path.read_text(errors="replace")[-20_000:]
        for path in (folder / "std_err.txt", folder / "vasp.out")
        if path.is_file()
    )
    if "No space left on device" in said:
        return StepFailed("no_space", f"{folder}: no space left on device; free some, then retry the job")
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "VASP said nothing")
    return StepFailed("crashed", f"{folder}: {message.splitlines()[0][:200]}; VASP's last words: {last[:200]}")
