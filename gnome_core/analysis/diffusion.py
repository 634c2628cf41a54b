"""Ionic conductivity from trajectories, by pymatgen's DiffusionAnalyzer; what counts as superionic.

Conductivities follow from the tracer diffusivity by the Nernst-Einstein relation: correlations between ions are left
out, as in the paper (Nature 624, 80, 2023, Methods).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.errors import GnomeError

SUPERIONIC = 10**1.18  # mS/cm at 1,000 K (Jun et al., Nat. Mater. 21, 924, 2022)
IONS = {"Li": 1, "Na": 1, "K": 1, "Mg": 2, "Ca": 2}  # the paper's mobile ions and their charges
BOLTZMANN = 8.617333262e-5  # eV/K


def mobile_ion(symbols: Collection[str]) -> str | None:
    """The first of `IONS` in a compound of these elements; None where there is none, or nothing beside it."""
    return next((ion for ion in IONS if ion in symbols and len(symbols) > 1), None)


class TooShort(GnomeError, ValueError):
    """A trajectory with too few frames for a diffusivity."""


@dataclass(frozen=True, eq=False)
class Diffusion:
    """One ion in one trajectory.

    diffusivity: cm^2/s; conductivity: mS/cm; lags: (k,) ps and msd: (k,) Å^2 of the ion; framework_msd: Å^2, largest
    mean square displacement of another element after the whole run (a melt shows here).
    """

    ion: str
    temperature: float
    diffusivity: float
    conductivity: float
    lags: np.ndarray
    msd: np.ndarray
    framework_msd: float

    @property
    def superionic(self) -> bool:
        """Whether the conductivity at 1,000 K passes the paper's threshold; ask only of runs at 1,000 K."""
        return self.conductivity > SUPERIONIC


def diffusion(
    crystal: Crystal, positions: np.ndarray, times: np.ndarray, ion: str, temperature: float, skip: float = 10.0
) -> Diffusion:
    """Diffusion of `ion` (an element of `IONS`) in unwrapped positions (f, n, 3) Å at times (f,) ps, evenly spaced.

    skip: ps left out at the start. Raises TooShort, or ValueError for an ion that the crystal lacks or consists of.
    """
    from pymatgen.analysis.diffusion.analyzer import DiffusionAnalyzer

    structure = to_structure(crystal)
    mobile = np.array([site.specie.symbol == ion for site in structure])
    if not mobile.any() or mobile.all():
        raise ValueError(f"diffusion of {ion} in {structure.composition.reduced_formula}: needs it and a framework")
    kept = times >= skip
    if kept.sum() < 2:
        raise TooShort(f"{times[-1]:.1f} ps, of which {skip:g} ps are left out; run longer")
    displacements = (positions[kept] - positions[kept][0]).transpose(1, 0, 2).astype(np.float64)
    interval = 1000 * (times[1] - times[0])  # fs
    # pymatgen takes whole numbers and asks for lags of at least 1 ps.
    try:
        analyzer = DiffusionAnalyzer(
            structure, displacements, ion, temperature, time_step=1, step_skip=round(interval), smoothed="max"
        )
    except ValueError as error:
        raise TooShort(f"{times[-1]:.1f} ps of {mobile.sum()} {ion}: {error}; run longer or a larger cell") from None
    last = displacements[:, -1] - displacements[~mobile, -1].mean(0)
    species = np.array([site.specie.symbol for site in structure])
    framework = max(float(np.square(last[species == s]).sum(1).mean()) for s in set(species[~mobile]))
    return Diffusion(
        ion,
        temperature,
        float(analyzer.diffusivity),
        float(analyzer.conductivity),
        np.asarray(analyzer.dt) / 1000,
        np.asarray(analyzer.msd),
        framework,
    )


@dataclass(frozen=True)
class Arrhenius:
    """sigma T = prefactor exp(-activation / k T). activation: eV; prefactor: mS/cm K."""

    activation: float
    prefactor: float

    def conductivity(self, temperature: float) -> float:
        """mS/cm at a temperature (K)."""
        return self.prefactor / temperature * float(np.exp(-self.activation / (BOLTZMANN * temperature)))


def arrhenius(temperatures: Sequence[float], conductivities: Sequence[float]) -> Arrhenius:
    """Least squares of ln(sigma T) over 1/T. Raises ValueError for fewer than two temperatures."""
    kelvin, sigma = np.asarray(temperatures, float), np.asarray(conductivities, float)
    if len(set(kelvin)) < 2:
        raise ValueError("an Arrhenius fit needs runs at two temperatures or more")
    slope, intercept = np.polyfit(1 / kelvin, np.log(np.maximum(sigma, 1e-12) * kelvin), 1)
    return Arrhenius(float(-slope * BOLTZMANN), float(np.exp(intercept)))
