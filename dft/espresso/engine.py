"""Quantum ESPRESSO as an engine: two variable-cell relaxations, then the energy on a denser mesh.

P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017). Inputs are written and outputs read by ASE; pw.x's XML
says how the calculation ended.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dft.config import EspressoConfig
from dft.espresso import pseudopotentials
from dft.espresso.inputs import magnetic_fractions, protocol_hash, pw_input
from dft.espresso.outputs import (
    FATAL,
    FIXABLE,
    Problem,
    last_geometry,
    lines_of,
    read_frames,
    read_moments,
    read_problem,
    read_xml,
)
from dft.jobs.engine import Correction, EngineMissing, StepFailed, StepResult, find_program, kill_group, tied
from dft.jobs.folders import Job
from dft.jobs.outputs import compress, find, read_text
from dft.protocol import ENERGY_STEP, ESPRESSO_STEPS
from gnome_core.crystals.crystal import Crystal
from gnome_core.files import write_file

# Tried one after the other where self-consistency is not reached; none changes what is computed.
SAFER: tuple[dict[str, object], ...] = (
    {"mixing_beta": 0.3, "electron_maxstep": 200},
    {"mixing_beta": 0.1, "mixing_mode": "local-TF", "electron_maxstep": 300},
    {"mixing_beta": 0.1, "mixing_mode": "plain", "diagonalization": "cg", "electron_maxstep": 300},
)


class EspressoEngine:
    """See `dft.jobs.engine.Engine`. wall_time: seconds for one step. max_errors: corrections of one step."""

    name = "espresso"
    steps = ESPRESSO_STEPS

    def __init__(self, config: EspressoConfig, wall_time: int | None = None, max_errors: int = 5):
        self.config, self.wall_time, self.max_errors = config, wall_time, max_errors
        self.folder = Path(config.pseudopotentials or pseudopotentials.default_folder())
        self.command = shlex.split(config.command)
        self.scale = f"pbe/pseudodojo-0.4/{config.ecutwfc:g}ry/espresso"

    @property
    def protocol(self) -> Mapping[str, object]:
        return {
            "evaluator": self.name,
            "scale": self.scale,
            "settings": self.config.settings(),
            "pseudopotentials": pseudopotentials.table_digest(),
            "inputs": protocol_hash(self.config),
        }

    def inputs(self, crystal: Crystal) -> dict[str, bytes]:
        return {"relax1/pw.in": pw_input(crystal, "relax1", self.config, ".", {})}

    def check(self) -> None:
        find_program(self.command, "install it (Debian: apt-get install quantum-espresso) or set dft.espresso.command")

    def library_problem(self) -> str | None:
        return None if self.folder.is_dir() else f"there is no {self.folder}; run `gnome dft setup-espresso`"

    def missing(self, symbol: str) -> str | None:
        if (self.folder / f"{symbol}.upf").is_file():
            return None
        if symbol in pseudopotentials.checksums():
            return f"{self.folder} lacks the pseudopotential of {symbol}; run `gnome dft setup-espresso`"
        return f"the table has no pseudopotential of {symbol}; leave it out of generation.elements"

    def doubt(self, symbol: str) -> str | None:
        return None

    def flow(self, job: Job) -> bytes:
        raise EngineMissing('atomate2 has no flows for Quantum ESPRESSO; set dft.emit to "folders" or "tar"')

    def energy_step(self) -> str:
        return ENERGY_STEP

    def correction(self, result: StepResult) -> Correction | None:
        return None

    def run(self, step: str, crystal: Crystal, previous: Path | None, folder: Path, left: Sequence[Path] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fractions = magnetic_fractions(crystal, self.folder)
        end = time.monotonic() + self.wall_time if self.wall_time else None  # of the step, however often pw.x starts
        fixes: list[str] = []
        try:
            problem = self._run_until_fixed(step, crystal, folder, fractions, end, fixes)
        finally:
            shutil.rmtree(folder / "pw.save", ignore_errors=True)
            compress(folder, ["pw.out", "pw.xml", *(f"pw.{number}.out" for number in range(len(fixes)))])
        if problem.reason in FATAL:
            raise StepFailed(problem.reason, f"{folder}: {problem.message}")

    def _run_until_fixed(
        self,
        step: str,
        crystal: Crystal,
        folder: Path,
        fractions: Mapping[str, float],
        end: float | None,
        fixes: list[str],
    ) -> Problem:
        """Run pw.x until nothing is wrong, nothing helps or no time is left; what is wrong then. Fills `fixes`."""
        safer = iter(SAFER)
        change: Mapping[str, object] = {}
        while True:
            seconds = None if end is None else end - time.monotonic()
            if seconds is not None and seconds <= 0:
                raise StepFailed("wall_time", f"{folder}: nothing was left of {self.wall_time} s to try again")
            limit = {} if seconds is None else {"max_seconds": 0.95 * seconds}
            text = pw_input(crystal, step, self.config, str(self.folder), fractions, {**change, **limit})
            (folder / "pw.in").write_bytes(text)
            code = self._run_pw(folder, seconds)
            problem = read_problem(step, (folder / "pw.out").read_text(errors="replace"), code)
            if problem.reason not in FIXABLE or len(fixes) >= self.max_errors:
                return problem
            if problem.reason == "scf_not_converged":
                safest = change
                change = next(safer, safest)
                if change is safest:
                    return problem
            crystal = last_geometry(folder) or crystal
            (folder / "pw.out").rename(folder / f"pw.{len(fixes)}.out")
            settings = ", ".join(f"{name} = {value}" for name, value in change.items())
            fixes.append(f"{problem.reason}: from the last geometry{settings and f', {settings}'}")
            write_file(folder / "fixes.txt", ("\n".join(fixes) + "\n").encode())

    def _run_pw(self, folder: Path, seconds: float | None) -> int:
        """Run pw.x to its end, or for so many seconds, and return its exit code."""
        try:
            find_program(self.command, "install it or set dft.espresso.command")
        except EngineMissing as error:
            raise StepFailed("engine_missing", str(error)) from None
        with open(folder / "pw.out", "wb") as out:
            process = subprocess.Popen(
                tied([*self.command, "-i", "pw.in"]),
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": "1", **os.environ},
                start_new_session=True,
            )
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise StepFailed("wall_time", f"{folder}: pw.x did not stop within {self.wall_time} s") from None
            finally:
                kill_group(process)
        xml = folder / "pw.save" / "data-file-schema.xml"
        if xml.is_file():
            shutil.copy(xml, folder / "pw.xml")
        return process.returncode

    def read(self, step: str, folder: Path) -> StepResult:
        fixes = tuple(line for line in lines_of(folder / "fixes.txt"))
        earlier = [frame for number in range(len(fixes)) for frame in read_frames(find(folder, f"pw.{number}.out"))]
        output = find(folder, "pw.out")
        text = read_text(output)
        frames = [replace(frame, step=i) for i, frame in enumerate([*earlier, *read_frames(output)])]
        problem = read_problem(step, text, 0)
        if problem.reason:
            message = f"{folder}: {problem.message}"
            return StepResult(frames, problem.reason, message, fixes=fixes, scale=self.scale)
        end = read_xml(find(folder, "pw.xml"))
        magmoms = read_moments(text, frames[-1].crystal.n_sites) if frames and end.spin else None
        return StepResult(
            frames,
            magmoms=magmoms,
            magnetization=end.magnetization,
            band_gap=end.band_gap,
            fixes=fixes,
            scale=self.scale,
        )
