"""What pw.x is given: input, cell, starting magnetisation."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import moyopy
import numpy as np

from dft.config import EspressoConfig
from dft.espresso import pseudopotentials
from dft.protocol import ESPRESSO_STEPS, PANEL, inputs_hash, mesh_divisions
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.convert import to_atoms
from gnome_core.crystals.crystal import Crystal, shortest_distance

# Elements that start ferromagnetic, with the Materials Project's 5 Bohr magnetons.
MAGNETIC = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo", "W"})
START_MOMENT = 5.0
O2_BOND = 1.4  # Å; closer oxygens are molecules or superoxide ions, which have unpaired electrons


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
