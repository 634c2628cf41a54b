"""Quantum ESPRESSO as an engine: two variable-cell relaxations, then the energy on a denser mesh.

P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017). Inputs are written and outputs read by ASE; pw.x's XML
says how the calculation ended.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import moyopy
import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from dft import pseudopotentials
from dft.config import EspressoConfig
from dft.engine import EngineMissing, OutputError, StepFailed, StepResult, find_program, kill_group, tied
from dft.folders import Job
from dft.outputs import compress, find, read_text
from dft.protocol import ESPRESSO_STEPS, PANEL, inputs_hash, mesh_divisions
from gnome_core.crystals.convert import from_atoms, to_atoms
from gnome_core.crystals.crystal import Crystal, shortest_distance
from gnome_core.crystals.formulas import SYMBOLS
from gnome_core.potentials.relax import Frame

HARTREE = 27.211386245988  # eV, CODATA 2018

# Elements that start ferromagnetic, with the Materials Project's 5 Bohr magnetons.
MAGNETIC = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo", "W"})
START_MOMENT = 5.0
O2_BOND = 1.4  # Å; closer oxygens are molecules or superoxide ions, which have unpaired electrons

# Tried one after the other where self-consistency is not reached; none changes what is computed.
SAFER: tuple[dict[str, object], ...] = (
    {"mixing_beta": 0.3, "electron_maxstep": 200},
    {"mixing_beta": 0.1, "mixing_mode": "local-TF", "electron_maxstep": 300},
    {"mixing_beta": 0.1, "mixing_mode": "plain", "diagonalization": "cg", "electron_maxstep": 300},
)


class EspressoEngine:
    """See `dft.engine.Engine`. wall_time: seconds for one step. max_errors: corrections of one step."""

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
        return "static"

    def correction_per_atom(self, result: StepResult) -> float | None:
        return None

    def run(self, step: str, crystal: Crystal, previous: Path | None, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fractions = magnetic_fractions(crystal, self.folder)
        limit = {"max_seconds": 0.95 * self.wall_time} if self.wall_time else {}
        fixes: list[str] = []
        safer = iter(SAFER)
        change: Mapping[str, object] = {}
        while True:
            text = pw_input(crystal, step, self.config, str(self.folder), fractions, {**change, **limit})
            (folder / "pw.in").write_bytes(text)
            code = self._run_pw(folder)
            problem = _problem(step, (folder / "pw.out").read_text(errors="replace"), code)
            if problem.reason not in FIXABLE or len(fixes) >= self.max_errors:
                break
            if problem.reason == "scf_not_converged":
                safest = change
                change = next(safer, safest)
                if change is safest:
                    break
            crystal = _last_geometry(folder) or crystal
            (folder / "pw.out").rename(folder / f"pw.{len(fixes)}.out")
            settings = ", ".join(f"{name} = {value}" for name, value in change.items())
            fixes.append(f"{problem.reason}: from the last geometry{settings and f', {settings}'}")
            (folder / "fixes.txt").write_text("\n".join(fixes) + "\n")
        shutil.rmtree(folder / "pw.save", ignore_errors=True)
        compress(folder, ["pw.out", "pw.xml", *(f"pw.{number}.out" for number in range(len(fixes)))])
        if problem.reason in FATAL:
            raise StepFailed(problem.reason, f"{folder}: {problem.message}")

    def _run_pw(self, folder: Path) -> int:
        """Run pw.x to its end and return its exit code."""
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
                process.wait(self.wall_time)
            except subprocess.TimeoutExpired:
                raise StepFailed("wall_time", f"{folder}: pw.x did not stop within {self.wall_time} s") from None
            finally:
                kill_group(process)
        xml = folder / "pw.save" / "data-file-schema.xml"
        if xml.is_file():
            shutil.copy(xml, folder / "pw.xml")
        return process.returncode

    def read(self, step: str, folder: Path) -> StepResult:
        fixes = tuple(line for line in _lines(folder / "fixes.txt"))
        earlier = [frame for number in range(len(fixes)) for frame in read_frames(find(folder, f"pw.{number}.out"))]
        output = find(folder, "pw.out")
        text = read_text(output)
        frames = [replace(frame, step=i) for i, frame in enumerate([*earlier, *read_frames(output)])]
        problem = _problem(step, text, 0)
        if problem.reason:
            return StepResult(frames, problem.reason, f"{folder}: {problem.message}", fixes=fixes)
        end = read_xml(find(folder, "pw.xml"))
        magmoms = _moments(text, frames[-1].crystal.n_sites) if frames and end.spin else None
        return StepResult(
            frames,
            magmoms=magmoms,
            magnetization=end.magnetization,
            band_gap=end.band_gap,
            fixes=fixes,
        )


def pw_input(
    crystal: Crystal,
    step: str,
    config: EspressoConfig,
    pseudo_dir: str,
    fractions: Mapping[str, float],
    electrons: Mapping[str, object] | None = None,
) -> bytes:
    """pw.in of one step. fractions: element -> starting magnetisation, of its valence electrons."""
    from ase.io.espresso import write_espresso_in

    changes = dict(electrons or {})
    density = config.static_reciprocal_density if step == "static" else config.reciprocal_density
    control = {
        "calculation": "scf" if step == "static" else "vc-relax",
        "prefix": "pw",
        "outdir": "./",
        "pseudo_dir": pseudo_dir,
        "disk_io": "low",
        "tstress": True,
        "tprnfor": True,
        "nstep": config.max_ionic_steps,
        "forc_conv_thr": config.forc_conv_thr,
    }
    if "max_seconds" in changes:
        control["max_seconds"] = changes.pop("max_seconds")
    data = {
        "control": control,
        "system": {
            "ecutwfc": config.ecutwfc,
            "occupations": "smearing",
            "smearing": "gauss",
            "degauss": config.degauss,
        },
        "electrons": {"conv_thr": config.conv_thr, "mixing_beta": 0.7, **changes},
        "ions": {},
        "cell": {"press_conv_thr": config.press_conv_thr},
    }
    crystal = standard_cell(crystal, config.symprec)
    atoms = to_atoms(crystal)
    atoms.set_initial_magnetic_moments([fractions.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols()])
    text = io.StringIO()
    write_espresso_in(
        text,
        atoms,
        input_data=data,
        pseudopotentials={symbol: f"{symbol}.upf" for symbol in set(atoms.get_chemical_symbols())},
        kpts=mesh_divisions(crystal.lattice, density),
    )
    return text.getvalue().encode()


def standard_cell(crystal: Crystal, symprec: float) -> Crystal:
    """The primitive cell in its standard setting, the symmetry that holds within `symprec` (Å) made exact.

    pw.x looks for symmetry along Cartesian axes only: other settings cost up to 48 times the k-points. The crystal as
    it is where no symmetry is found.
    """
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist())
    try:
        primitive = moyopy.MoyoDataset(cell, symprec=symprec).prim_std_cell
    except Exception:  # moyopy raises a plain exception
        return crystal
    return Crystal(np.array(primitive.basis), np.array(primitive.positions), np.array(primitive.numbers))


def magnetic_moments(crystal: Crystal) -> dict[str, float]:
    """Element -> starting moment in Bohr magnetons, ferromagnetic, of the elements that have one."""
    symbols = {SYMBOLS[z] for z in crystal.numbers}
    moments = dict.fromkeys(symbols & MAGNETIC, START_MOMENT)
    oxygen = crystal.numbers == 8
    if oxygen.any():
        sublattice = Crystal(crystal.lattice, crystal.frac_coords[oxygen], crystal.numbers[oxygen])
        if shortest_distance(sublattice, O2_BOND) < O2_BOND:
            moments["O"] = 1.0
    return moments


def magnetic_fractions(crystal: Crystal, folder: Path) -> dict[str, float]:
    """`magnetic_moments` as fractions of the valence electrons of the potentials in the folder, at most 1."""
    moments = magnetic_moments(crystal).items()
    return {symbol: min(1.0, moment / pseudopotentials.valence(folder, symbol)) for symbol, moment in moments}


@cache
def protocol_hash(config: EspressoConfig) -> str:
    """Hash of the inputs that these settings make for the crystals of `PANEL`, potentials and moments aside."""
    decisive = config.model_copy(update={"command": "", "pseudopotentials": None})
    return inputs_hash(
        {
            f"{number}/{step}/pw.in": pw_input(crystal, step, decisive, ".", magnetic_moments(crystal))
            for number, crystal in enumerate(PANEL)
            for step in ESPRESSO_STEPS
        }
    )


# Reading


class _Problem(NamedTuple):
    """What went wrong, or reason ""."""

    reason: str
    message: str


FIXABLE = ("scf_not_converged", "bfgs_failed", "cell_outgrew_basis")
FATAL = ("crashed", "engine_error", "no_space", *FIXABLE)


def _problem(step: str, text: str, code: int) -> _Problem:
    """How pw.x says that it failed."""
    if "No space left on device" in text:
        return _Problem("no_space", "no space left on device; free some, then retry the job")
    if "convergence NOT achieved" in text:
        return _Problem("scf_not_converged", "self-consistency was not reached, with safer mixing neither")
    if "larger cell_factor" in text:
        return _Problem("cell_outgrew_basis", "the cell grew beyond its plane waves again and again")
    if error := re.search(r"Error in routine\s+(.*?)\n\s*(.*?)\n", text):
        return _Problem("engine_error", f"pw.x: {error[1].strip()}: {error[2].strip()}")
    if "Maximum CPU time exceeded" in text:
        return _Problem("wall_time", "the wall time was over; give more and retry, it goes on from there")
    if "JOB DONE" not in text:
        return _Problem("crashed", f"pw.x ended in the middle (exit code {code}); the end of pw.out may say why")
    if step != "static" and "bfgs converged" not in text:
        if "The maximum number of steps has been reached" in text:
            return _Problem("not_converged", "ionic steps were used up; retry, it goes on from there")
        return _Problem("bfgs_failed", "the minimiser gave up")
    return _Problem("", "")


def read_frames(path: Path) -> list[Frame]:
    """All ionic steps of a pw.out that have energy, forces and stress. Raises OutputError."""
    from ase.io.espresso import read_espresso_out

    text = read_text(path)
    try:
        images = list(read_espresso_out(io.StringIO(text), index=slice(None)))
    except (AssertionError, IndexError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise OutputError("truncated_output", f"{path} is no whole output of pw.x ({error}); run it again") from error
    frames = []
    for atoms in images:
        results = atoms.calc.results if atoms.calc else {}
        if {"energy", "forces", "stress"} <= results.keys():
            frames.append(
                Frame(
                    len(frames),
                    from_atoms(atoms),
                    float(results["energy"]),
                    np.array(results["forces"], np.float64),
                    voigt_6_to_full_3x3_stress(results["stress"]),
                )
            )
    return frames


@dataclass(frozen=True)
class _End:
    """What pw.x's XML says of the last self-consistent state. band_gap: eV; magnetization: Bohr magnetons per cell."""

    spin: bool
    magnetization: float
    band_gap: float


def read_xml(path: Path) -> _End:
    """Raises OutputError."""
    try:
        output = ET.fromstring(read_text(path))
        spin = _text(output, "output/band_structure/lsda").strip() == "true"
        rows = [_text(node, ".").split() for node in output.iterfind("output/band_structure/ks_energies/eigenvalues")]
        energies = np.array(rows, float) * HARTREE
        fermi = float(_text(output, "output/band_structure/fermi_energy")) * HARTREE
        total = float(_text(output, "output/magnetization/total"))
    except (ET.ParseError, ValueError) as error:
        raise OutputError("truncated_output", f"{path} is no whole XML of pw.x ({error}); run it again") from error
    channels = np.split(energies, 2, axis=1) if spin else [energies]
    return _End(spin, total, band_gap(channels, fermi))


def _text(node: ET.Element, path: str) -> str:
    found = node if path == "." else node.find(path)
    if found is None or found.text is None:
        raise ValueError(f"no {path}")
    return found.text


def band_gap(channels: Sequence[np.ndarray], fermi: float) -> float:
    """eV between the highest full and the lowest empty band; 0 if a band crosses the Fermi energy.

    channels: one (k-points, bands) array a spin, eV.
    """
    bands = [band for energies in channels for band in energies.T]
    full = [band.max() for band in bands if band.max() <= fermi]
    empty = [band.min() for band in bands if band.min() > fermi]
    if not full or not empty or len(full) + len(empty) < len(bands):
        return 0.0
    return float(min(empty) - max(full))


def _moments(text: str, n_sites: int) -> np.ndarray | None:
    """(n,) Bohr magnetons of the last "atom: ... magn: ..." table."""
    found = re.findall(r"atom:\s*\d+\s+charge:\s*\S+\s+magn:\s*(\S+)", text)
    return np.array(found[-n_sites:], float) if len(found) >= n_sites else None


def _last_geometry(folder: Path) -> Crystal | None:
    try:
        frames = read_frames(folder / "pw.out")
    except OutputError:
        return None
    return frames[-1].crystal if frames else None


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
