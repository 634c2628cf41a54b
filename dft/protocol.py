"""GNoME's first-principles settings as data, each pinned by a hash of the inputs that it makes.

Merchant et al., Nature 624, 80 (2023), Methods: PBE (+U) as in the Materials Project's relaxation set, two relaxations
of all degrees of freedom, then a static calculation; gamma-centred meshes for hexagonal cells only; newer potentials
for Li, Na, Mg, Ge and Ga; r2SCAN in three steps; molecular dynamics without spin, heated and then held. Input sets:
`dft.vasp.inputs`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from gnome_core.crystals.crystal import Crystal

VASP_SCALES = {
    "pbe": "pbe+u/mp2020/vasp",
    "bands": "pbe+u/mp2020/vasp",
    "r2scan": "r2scan/vasp",
    "aimd": "pbe/gamma/vasp",  # no +U, the potentials' own cutoffs
}

ENERGY_STEP = "static"  # the calculation whose energy is the job's, of every protocol that has one

# The Materials Project's symbols, in the newer files of the PBE_54 set: same valence, 2004-2010 instead of 2000-2001.
NEWER_POTENTIALS = ("Li", "Na", "Mg", "Ge", "Ga")
NEWER_FAMILY = "PBE_54"


@dataclass(frozen=True, eq=False)
class VaspStep:
    """One VASP calculation of a job.

    name: its folder. input_set: class of `dft.vasp.inputs`, made with `settings`. copies: files of the step before that
    it starts from, where they are there. reads_previous: whether its settings follow from the step before's output
    (gap, bands, moments). dynamics: whether atoms move by Newton's laws, from where and as fast as the step before left
    them.
    scale: of its frames' energies, where they are not on the protocol's. labels: whether its energies and forces are
    those of a self-consistent state, which potentials may learn from.
    """

    name: str
    input_set: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    copies: tuple[str, ...] = ()
    reads_previous: bool = False
    dynamics: bool = False
    scale: str | None = None
    labels: bool = True


_PBE = (VaspStep("relax1", "RelaxSet"), VaspStep("relax2", "RelaxSet"), VaspStep("static", "StaticSet"))


@cache
def aimd_steps(
    temperature: float = 1000.0,
    start_temperature: float = 300.0,
    timestep: float = 2.0,
    ramp: float = 5.0,
    duration: float = 45.0,
) -> tuple[VaspStep, ...]:
    """Molecular dynamics: from one temperature (K) to the other in `ramp` ps by rescaled velocities (SMASS = -1), then
    `duration` ps at the latter with a Nosé thermostat (SMASS = 0); timestep: fs."""

    def step(name: str, start: float, picoseconds: float, **incar: float) -> VaspStep:
        n_steps = max(1, round(1000 * picoseconds / timestep))
        settings = {"start_temp": start, "end_temp": temperature, "nsteps": n_steps, "time_step": timestep}
        more = {"user_incar_settings": incar} if incar else {}
        return VaspStep(name, "MolecularDynamicsSet", settings | more, ("WAVECAR",), dynamics=True)

    held = step("nvt", temperature, duration)
    return (step("ramp", start_temperature, ramp, SMASS=-1), held) if ramp else (held,)


VASP_PROTOCOLS: dict[str, tuple[VaspStep, ...]] = {
    "pbe": _PBE,
    "bands": (*_PBE, VaspStep("bands", "LineSet", {"mode": "line"}, ("CHGCAR",), reads_previous=True, labels=False)),
    "r2scan": (
        # The PBE_54 family has no W_pv.
        VaspStep(
            "relax1",
            "RelaxSet",
            {"user_potcar_functional": "PBE_54", "user_potcar_settings": {"W": "W_sv"}},
            scale="pbe+u/pbe_54/vasp",
        ),
        VaspStep("relax2", "ScanRelaxSet", reads_previous=True),
        VaspStep("static", "ScanStaticSet", reads_previous=True),
    ),
    "aimd": aimd_steps(),
}

ESPRESSO_STEPS = ("relax1", "relax2", "static")  # vc-relax, vc-relax, scf

# Hashes of the inputs for `PANEL`, as this project was tested with. A pymatgen that changes them shows up in
# `gnome dft protocol`, and its jobs get digests of their own.
PINNED = {
    "pbe": "f17e6490ed11808f",
    "bands": "7be741fd93fc3dd5",
    "r2scan": "5cf2a50ab234aeea",
    "aimd": "5622375e9017b435",
    "espresso": "a787306292f93839",
}


def _cell(a: float, b: float, c: float, gamma: float = 90.0) -> np.ndarray:
    angle = np.radians(gamma)
    return np.array([[a, 0, 0], [b * np.cos(angle), b * np.sin(angle), 0], [0, 0, c]])


def _crystal(lattice: np.ndarray, frac_coords: list[list[float]], numbers: list[int]) -> Crystal:
    return Crystal(lattice, np.array(frac_coords), np.array(numbers))


# Face-centred, hexagonal, +U with magnetic atoms, a metal with a newer potential.
PANEL = (
    _crystal((np.ones((3, 3)) - np.eye(3)) * 2.845, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17]),
    _crystal(
        _cell(3.25, 3.25, 5.21, 120),
        [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.382], [2 / 3, 1 / 3, 0.882]],
        [30, 30, 8, 8],
    ),
    _crystal(_cell(3.0, 3.0, 5.0), [[0, 0, 0], [0.5, 0.5, 0.25], [0.5, 0, 0.6], [0, 0.5, 0.8]], [26, 8, 8, 3]),
    _crystal(_cell(3.19, 3.19, 5.18, 120), [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]], [12, 12]),
)


def mesh_divisions(lattice: np.ndarray, density: float) -> tuple[int, int, int]:
    """Divisions of a mesh of about `density` points per 1/Å^3 of the reciprocal cell, as pymatgen chooses them.

    lattice: (3, 3) Å, vectors as rows.
    """
    lengths = np.linalg.norm(lattice, axis=1)
    reciprocal_volume = (2 * np.pi) ** 3 / abs(np.linalg.det(lattice))
    edge = (density * reciprocal_volume * lengths.prod()) ** (1 / 3)
    first, second, third = (max(1, int(edge / length)) for length in lengths)
    return first, second, third


def inputs_hash(files: Mapping[str, bytes]) -> str:
    """16 hex characters of input files, by name; numbers to 1e-6, so that no rounding of a machine shows."""
    digest = hashlib.blake2b(digest_size=8)
    for name, content in sorted(files.items()):
        text = re.sub(r"-?\d+\.\d*(?:[eE][+-]?\d+)?", lambda number: f"{float(number[0]) + 0.0:.6f}", content.decode())
        digest.update(f"{name}\0{text.replace('-0.000000', '0.000000')}\0".encode())
    return digest.hexdigest()
