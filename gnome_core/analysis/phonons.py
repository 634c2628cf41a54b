"""Frequencies, dynamic stability and heat capacity of harmonic crystals."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnome_core.potentials.force_constants import SYMPREC

if TYPE_CHECKING:
    from phonopy import Phonopy

TEMPERATURE = 300.0  # K
MESH = 40.0  # Å: a reciprocal vector of length 1 / d is cut into MESH / d pieces
GAS_CONSTANT = 8.31446261815324  # J/mol/K
THZ_IN_KELVIN = 47.992430733  # h / k


@dataclass(frozen=True)
class Vibrations:
    """lowest: THz, of all modes of the mesh but the three that move the crystal as a whole; imaginary ones negative.
    optical: THz, the highest at Gamma, None of one atom. heat_capacity: J/mol/K a mole of atoms, at TEMPERATURE and
    constant volume; imaginary modes carry none."""

    lowest: float
    optical: float | None
    heat_capacity: float


def vibrations(found: Phonopy) -> Vibrations:
    """From the force constants of `gnome_core.potentials.force_constants.harmonic`, on a mesh about Gamma.

    Without the non-analytical correction: polar crystals have their transverse frequencies at Gamma.
    """
    with warnings.catch_warnings():  # that a mesh along other axes has the crystal's symmetry, and is taken
        warnings.simplefilter("ignore", RuntimeWarning)
        mesh = found.run_mesh(MESH, is_gamma_center=True)
    frequencies, weights = mesh.frequencies.copy(), mesh.weights
    gamma = int(np.flatnonzero(np.abs(mesh.qpoints).max(axis=1) < 1e-9)[0])
    acoustic = np.argsort(np.abs(frequencies[gamma]))[:3]
    others = np.delete(frequencies[gamma], acoustic)
    frequencies[gamma, acoustic] = 0
    lowest = min(frequencies[np.arange(len(frequencies)) != gamma].min(initial=np.inf), others.min(initial=np.inf))
    capacity = heat_capacity(frequencies, TEMPERATURE).sum(axis=1) @ weights / weights.sum()
    optical = float(others.max()) if len(others) else None
    return Vibrations(float(lowest), optical, float(capacity) / (frequencies.shape[1] / 3))


def heat_capacity(frequencies: np.ndarray, temperature: float) -> np.ndarray:
    """J/mol/K of each mode (THz) of Einstein's formula; R at zero frequency, none of imaginary (negative) modes."""
    half = np.abs(frequencies) * THZ_IN_KELVIN / temperature / 2
    ratio = np.ones_like(half)
    np.divide(half, np.sinh(half), out=ratio, where=half > 1e-6)
    return np.where(frequencies < 0, 0.0, GAS_CONSTANT * ratio**2)


@dataclass(frozen=True)
class Bands:
    """Frequencies along a path. distances: (q,) 1/Å; frequencies: (q, 3n) THz; ticks: names of special points with
    their distances."""

    distances: np.ndarray
    frequencies: np.ndarray
    ticks: list[tuple[str, float]]


def bands(found: Phonopy, points: int = 200) -> Bands:
    """Along the path of Setyawan and Curtarolo, Comput. Mater. Sci. 49, 299 (2010), as ASE has it for the cell."""
    from ase.cell import Cell

    path = Cell(found.primitive.cell).bandpath(npoints=points, eps=SYMPREC)
    distances, places, names = path.get_linear_kpoint_axis()
    frequencies = found.run_qpoints(path.kpts).frequencies
    return Bands(distances, frequencies, list(zip(names, places.tolist(), strict=True)))


def save_bands(found: Phonopy, path: Path) -> None:
    """A PNG of the band structure; imaginary frequencies are below zero."""
    from matplotlib.figure import Figure

    drawn = bands(found)
    merged: dict[float, str] = {}  # where a path jumps, two points share a place
    for name, place in drawn.ticks:
        merged[place] = f"{merged[place]}|{name}" if place in merged else name
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(drawn.distances, drawn.frequencies, color="#1f77b4", linewidth=1)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set_xticks(list(merged), [name.replace("G", "Γ") for name in merged.values()])
    axes.grid(axis="x", color="0.85")
    axes.set(ylabel="frequency (THz)", xlim=(0, drawn.distances[-1]))
    figure.savefig(path, dpi=150)
