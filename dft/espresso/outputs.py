"""What pw.x leaves: its XML, frames and messages."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from dft.jobs.engine import OutputError
from dft.jobs.outputs import read_text
from gnome_core.crystals.convert import from_atoms
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Frame

HARTREE = 27.211386245988  # eV, CODATA 2018


class Problem(NamedTuple):
    """What went wrong, or reason ""."""

    reason: str
    message: str


FIXABLE = ("scf_not_converged", "bfgs_failed", "cell_outgrew_basis")
FATAL = ("crashed", "engine_error", "no_space", *FIXABLE)


def read_problem(step: str, text: str, code: int) -> Problem:
    """How pw.x says that it failed."""
    if "No space left on device" in text:
        return Problem("no_space", "no space left on device; free some, then retry the job")
    if "convergence NOT achieved" in text:
        return Problem("scf_not_converged", "self-consistency was not reached, with safer mixing neither")
    if "larger cell_factor" in text:
        return Problem("cell_outgrew_basis", "the cell grew beyond its plane waves again and again")
    if error := re.search(r"Error in routine\s+(.*?)\n\s*(.*?)\n", text):
        return Problem("engine_error", f"pw.x: {error[1].strip()}: {error[2].strip()}")
    if "Maximum CPU time exceeded" in text:
        return Problem("wall_time", "the wall time was over; give more and retry, it goes on from there")
    if "JOB DONE" not in text:
        return Problem("crashed", f"pw.x ended in the middle (exit code {code}); the end of pw.out may say why")
    if step != "static" and "bfgs converged" not in text:
        if "The maximum number of steps has been reached" in text:
            return Problem("not_converged", "ionic steps were used up; retry, it goes on from there")
        return Problem("bfgs_failed", "the minimiser gave up")
    return Problem("", "")


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
class End:
    """What pw.x's XML says of the last self-consistent state. band_gap: eV; magnetization: Bohr magnetons per cell."""

    spin: bool
    magnetization: float
    band_gap: float


def read_xml(path: Path) -> End:
    """Raises OutputError: truncated_output for a damaged file, unknown_output for what no version of pw.x that is known
    writes after the calculations of this project."""
    try:
        output = ET.fromstring(read_text(path))
        spin = _text(output, "output/band_structure/lsda").strip() == "true"
        rows = [_text(node, ".").split() for node in output.iterfind("output/band_structure/ks_energies/eigenvalues")]
        energies = np.array(rows, float) * HARTREE
        if not energies.size:
            raise ValueError("no eigenvalues")
        noncollinear = (output.findtext("output/band_structure/noncolin") or "").strip() == "true"
        absent = [name for name in _needed(spin) if output.find(name) is None]
        if noncollinear or absent:
            creator = output.find("general_info/creator")
            version = "unknown version" if creator is None else creator.get("VERSION", "unknown version")
            what = "noncollinear spins" if noncollinear else f"no {', '.join(absent)}"
            raise OutputError("unknown_output", f"{path} of pw.x {version} has {what}, which is not understood")
        fermi = float(_text(output, "output/band_structure/fermi_energy")) * HARTREE
        # Since pw.x 7.0 (schema 211101) the total is there for spin-polarised states only; others have none.
        total = float(_text(output, "output/magnetization/total")) if spin else 0.0
    except (ET.ParseError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError("truncated_output", f"{path} is no whole XML of pw.x ({error}); run it again") from error
    channels = np.split(energies, 2, axis=1) if spin else [energies]
    return End(spin, total, band_gap(channels, fermi))


def _needed(spin: bool) -> tuple[str, ...]:
    fermi = "output/band_structure/fermi_energy"
    return (fermi, "output/magnetization/total") if spin else (fermi,)


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


# pw.x up to 6.7: "atom:    1    charge:    6.4123    magn:    2.2011    constr:    0.0000"
# pw.x from 6.8 on: "atom   1 (R=0.411)  charge= 15.6004  magn=  1.2090"
MOMENT = re.compile(r"atom\s*:?\s+\d+\s+(?:\(R=[^)]*\)\s*)?charge\s*[:=]\s*\S+\s+magn\s*[:=]\s*(-?[\d.]+)")


def read_moments(text: str, n_sites: int) -> np.ndarray | None:
    """(n,) Bohr magnetons of the last table of moments of the atoms, in the words of either version."""
    found = MOMENT.findall(text)
    return np.array(found[-n_sites:], float) if len(found) >= n_sites else None


def last_geometry(folder: Path) -> Crystal | None:
    try:
        frames = read_frames(folder / "pw.out")
    except OutputError:
        return None
    return frames[-1].crystal if frames else None


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
