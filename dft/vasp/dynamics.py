"""What VASP's molecular dynamics wrote: positions, energies, forces and stresses of every step, part after part.

A calculation that was cut off is continued from its CONTCAR in another start; what the starts before left lies beside
it as vasprun.1.xml, vasprun.2.xml, ... Files are read as streams, since a run of 50 ps is hundreds of megabytes, and up
to where they were cut off.
"""

from __future__ import annotations

import gzip
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np

from dft.jobs.engine import OutputError
from dft.jobs.outputs import find, read_text
from dft.vasp.outputs import energy_to_zero_smearing
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Frame
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_KBAR


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Steps of molecular dynamics in one cell.

    lattice: (3, 3) Å; numbers: (n,); frac_coords: (f, n, 3), wrapped or not; energies: (f,) eV at sigma -> 0; forces:
    (f, n, 3) eV/Å; stresses: (f, 3, 3) eV/Å^3, tension positive; converged: (f,) bool, whether the electrons were;
    timestep: fs; parameters: as in `dft.jobs.engine.StepResult`.
    """

    lattice: np.ndarray
    numbers: np.ndarray
    frac_coords: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray
    converged: np.ndarray
    timestep: float
    parameters: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def crystal(self) -> Crystal:
        """The first step's."""
        return Crystal(self.lattice, self.frac_coords[0] % 1.0, self.numbers)

    @property
    def positions(self) -> np.ndarray:
        """(f, n, 3) Å, unwrapped: no atom moves half a cell in one step."""
        moves = np.diff(self.frac_coords, axis=0)
        moves -= np.round(moves)
        path = np.concatenate([self.frac_coords[:1], self.frac_coords[0] + np.cumsum(moves, axis=0)])
        return path @ self.lattice

    @property
    def times(self) -> np.ndarray:
        """(f,) ps."""
        return np.arange(len(self)) * self.timestep / 1000

    def frames(self, every: int) -> list[Frame]:
        """Every so many steps and the last one, of those whose electrons converged."""
        rows = np.flatnonzero(self.converged)
        rows = rows[(rows % every == 0) | (rows == rows.max(initial=-1))]
        return [
            Frame(
                row,
                Crystal(self.lattice, self.frac_coords[row] % 1.0, self.numbers),
                float(self.energies[row]),
                self.forces[row],
                self.stresses[row],
            )
            for row in rows.tolist()
        ]


def read_dynamics(folder: Path) -> Dynamics:
    """All that was computed in a calculation's folder. Raises OutputError where there is not one whole step, or where
    parts are of different cells."""
    return joined([_read(path) for path in _files(folder)], str(folder))


def joined(runs: Sequence[Dynamics], where: str) -> Dynamics:
    """One after the other, each from where the one before was left; runs without a step are left out. Raises
    OutputError where they are not of one cell, or all without a step."""
    found = [run for run in runs if len(run)]
    if not found:
        raise OutputError("truncated_output", f"{where} holds no step of molecular dynamics; run the job again")
    first = found[0]
    for run in found[1:]:
        same = np.array_equal(run.numbers, first.numbers) and np.allclose(run.lattice, first.lattice, atol=1e-4)
        if not same or run.timestep != first.timestep:
            raise OutputError("foreign_output", f"{where}: its parts are not of one cell; put the right files there")
    return Dynamics(
        first.lattice,
        first.numbers,
        *(
            np.concatenate([getattr(run, name) for run in found])
            for name in ("frac_coords", "energies", "forces", "stresses", "converged")
        ),
        first.timestep,
        found[-1].parameters,
    )


def _files(folder: Path) -> list[Path]:
    """What earlier starts left, the first one first, and the last start's."""
    found = {}
    for path in folder.glob("vasprun.*xml*"):
        if match := re.fullmatch(r"vasprun\.(?:(\d+)\.)?xml(\.gz)?", path.name):
            found[int(match[1] or 1_000_000)] = path
    return [found[number] for number in sorted(found)]


def take_over(left: Path, folder: Path) -> tuple[int, str] | None:
    """Put beside the next start what a calculation that ended early left: (its steps, its CONTCAR).

    None where that is not enough to go on from: no whole step, or a CONTCAR that was cut off or knows no velocities.
    """
    try:
        contcar, run = read_text(find(left, "CONTCAR")), read_dynamics(left)
    except OutputError:
        return None
    if not has_velocities(contcar):
        return None
    for number, path in enumerate(_files(left), 1):
        shutil.copy(path, folder / f"vasprun.{number}.xml{'.gz' if path.suffix == '.gz' else ''}")
    return len(run), contcar


def has_velocities(poscar: str) -> bool:
    """Whether a POSCAR is whole and has a velocity (Å/fs) for every atom."""
    lines = poscar.splitlines()
    try:
        n = sum(map(int, lines[6].split()))
        after = [line.split() for line in lines[8 + n :]]
        velocities = np.array([row[:3] for row in after[1 : 1 + n]], float)
    except (IndexError, ValueError):
        return False
    return velocities.shape == (n, 3) and bool(np.isfinite(velocities).all())


def _read(path: Path) -> Dynamics:
    """Whole steps of one vasprun.xml, up to where it ends. Raises OutputError for one without a head."""
    read = _Reader(path)
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            for _, element in iterparse(file):
                read.take(element)
        except (ParseError, EOFError, OSError, zlib.error):  # cut off; what is whole counts
            pass
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise OutputError(
                "truncated_output", f"{path} is no vasprun.xml ({type(error).__name__}: {error}); run it again"
            ) from error
    return read.dynamics()


class _Reader:
    """Collects from elements as they end; what has been taken is let go."""

    def __init__(self, path: Path):
        self.path, self.version = path, ""
        self.tags: dict[str, str] = {}
        self.numbers: list[int] = []
        self.titels: list[str] = []
        self.lattice = np.zeros((3, 3))
        self.steps: list[tuple[np.ndarray, float, np.ndarray, np.ndarray, bool]] = []

    def take(self, element: Element) -> None:
        if element.tag == "generator":
            self.version = (element.findtext("i[@name='version']") or "").strip()
        elif element.tag in ("incar", "parameters"):
            self.tags |= {i.get("name", ""): (i.text or "").strip() for i in element.iter("i")}
        elif element.tag == "atominfo":
            atoms = element.iterfind("array[@name='atoms']/set/rc")
            self.numbers = [NUMBERS[(row[0].text or "").strip()] for row in atoms]
            kinds = element.iterfind("array[@name='atomtypes']/set/rc")
            self.titels = [(row[4].text or "").strip() for row in kinds]
        elif element.tag == "calculation":
            self._step(element)
        if element.tag in ("incar", "parameters", "atominfo", "kpoints", "calculation"):
            element.clear()

    def _step(self, element: Element) -> None:
        structure = element.find("structure")
        forces, stress = _array(element, "varray[@name='forces']"), _array(element, "varray[@name='stress']")
        if structure is None or forces is None:
            return
        frac, lattice = _array(structure, "varray"), _array(structure, "crystal/varray[@name='basis']")
        if frac is None or lattice is None:
            return
        if stress is None:  # with ISIF = 0 VASP computes none
            stress = np.full((3, 3), np.nan)
        electronic = element.findall("scstep/energy")
        step = {**_energies(element.find("energy")), "electronic_steps": [_energies(one) for one in electronic[-1:]]}
        energy = energy_to_zero_smearing(step, self.version, str(self.path))
        if not self.steps:
            self.lattice = lattice
        converged = len(electronic) < int(self.tags.get("NELM", 60))
        self.steps.append((frac, energy, forces, -stress / EV_PER_CUBIC_ANGSTROM_IN_KBAR, converged))

    def dynamics(self) -> Dynamics:
        f, n = len(self.steps), len(self.numbers)
        frac, energies, forces, stresses, converged = zip(*self.steps, strict=True) if f else ((),) * 5
        return Dynamics(
            self.lattice,
            np.array(self.numbers, int),
            np.array(frac, float).reshape(f, n, 3),
            np.array(energies, float),
            np.array(forces, float).reshape(f, n, 3),
            np.array(stresses, float).reshape(f, 3, 3),
            np.array(converged, bool),
            float(self.tags.get("POTIM", 0.0)),
            {"hubbards": {}, "run_type": "GGA", "titels": self.titels},
        )


def _energies(element: Element | None) -> dict[str, float]:
    found: Iterator[Element] = iter(()) if element is None else element.iterfind("i")
    return {i.get("name", ""): float(i.text or "nan") for i in found}


def _array(element: Element, path: str) -> np.ndarray | None:
    found = element.find(path)
    return None if found is None else np.array([(row.text or "").split() for row in found.iterfind("v")], float)
