"""Molecular dynamics for the stand-in: ions that wander freely in a framework that keeps its places.

Li, Na and K feel friction and heat alone, so that their diffusivity is k T / (m friction); every other element sits in
the minima of a cosine along each lattice vector, of a twelfth of the vector's period. Where VASP's thermostat is
Nosé's, this one is Langevin's, which ions without a potential need.
"""

from __future__ import annotations

import zlib

import numpy as np

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.models.elements import ATOMIC_MASSES

MOBILE = ("Li", "Na", "K")
FRICTION = 0.05  # 1/fs
BOLTZMANN = 8.617333262e-5  # eV/K
EV_PER_AMU = 9.648533e-3  # (Å/fs)^2 amu
WAVES, HALF_BARRIER = 12, 1.0  # in a lattice vector; eV


def diffusivity(symbol: str, temperature: float) -> float:
    """cm^2/s of a mobile ion."""
    return BOLTZMANN * temperature * EV_PER_AMU / ATOMIC_MASSES[NUMBERS[symbol]] / FRICTION * 0.1


def dynamics(
    lattice: np.ndarray, frac: np.ndarray, symbols: list[str], velocities: np.ndarray | None, incar: dict, steps: int
) -> tuple[list[dict], np.ndarray, np.ndarray]:
    """(frames, fractional coordinates and velocities (Å/fs) after the last one) of a start that takes these steps.

    The temperature goes from TEBEG to TEEND in NSW steps; with SMASS = -1 velocities are scaled to it in each of them.
    """
    rng = np.random.default_rng(zlib.crc32(frac.tobytes()))
    masses = ATOMIC_MASSES[[NUMBERS[symbol] for symbol in symbols]][:, None]
    bound = ~np.isin(symbols, MOBILE)
    dt, inverse = float(incar["POTIM"]), np.linalg.inv(lattice)
    begin, end, asked = float(incar["TEBEG"]), float(incar["TEEND"]), int(incar["NSW"])

    def pull(x: np.ndarray) -> tuple[float, np.ndarray]:
        phase = 2 * np.pi * WAVES * (x @ inverse)
        energy = HALF_BARRIER * (1 - np.cos(phase))[bound].sum()
        forces = -HALF_BARRIER * 2 * np.pi * WAVES * np.sin(phase) @ inverse.T
        return float(energy) - 3.0 * len(symbols), np.where(bound[:, None], forces, 0.0)

    def thermal(kelvin: float) -> np.ndarray:
        return np.sqrt(BOLTZMANN * kelvin * EV_PER_AMU / masses)

    x = frac @ lattice
    v = rng.normal(size=x.shape) * thermal(begin) if velocities is None else velocities.copy()
    frames, kept = [], np.exp(-FRICTION * dt)
    energy, forces = pull(x)
    for number in range(steps):
        kelvin = begin + (end - begin) * (number + 1) / asked
        now = float((masses * v**2).sum()) / (3 * len(symbols) * BOLTZMANN * EV_PER_AMU)
        place = (x @ inverse) % 1.0  # VASP's are wrapped
        frame = {"lattice": lattice.tolist(), "frac_coords": place.tolist(), "energy": energy, "temperature": now}
        frames.append({**frame, "forces": forces.tolist(), "stress": np.zeros((3, 3)).tolist()})
        v += forces * EV_PER_AMU / masses * dt / 2
        x = x + v * dt / 2
        v = kept * v + np.sqrt(1 - kept**2) * thermal(kelvin) * rng.normal(size=v.shape)
        x = x + v * dt / 2
        energy, forces = pull(x)
        v += forces * EV_PER_AMU / masses * dt / 2
        if float(incar["SMASS"]) == -1:
            v *= np.sqrt(kelvin * 3 * len(symbols) * BOLTZMANN * EV_PER_AMU / (masses * v**2).sum())
    return frames, (x @ inverse) % 1.0, v
