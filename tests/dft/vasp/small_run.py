"""Output of a small imagined run, one copper atom in a cube, as different versions of VASP word it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.dft.standin.vasp import tag, varray

SOFT_STOP = " soft stop encountered!  aborting job ..."
HARD_STOP = " hard stop encountered!  aborting job ..."
REACHED = " reached required accuracy - stopping structural energy minimisation"


@dataclass(frozen=True)
class Step:
    """One ionic step.

    free: eV, with dispersion. own: what stands in its e_0_energy. electronic: (free, zero) of the last electronic step,
    None where there is none. force: eV/Å on the atom.
    """

    free: float
    own: float
    electronic: tuple[float, float] | None
    force: float = 0.0


def write_run(
    folder: Path,
    steps: list[Step],
    version: str = "6.4.3",
    said: str = "",
    **incar: float,
) -> Path:
    """vasprun.xml and OUTCAR of the steps; said: the OUTCAR's last words. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"NSW": 0, "IBRION": -1, "EDIFFG": -0.02, "NELM": 60, "ISPIN": 1, "ISMEAR": 1, "SIGMA": 0.2, **incar}
    functional = {"LHFCALC": False, "AEXX": 0.0, "HFSCREEN": 0.0, "GGA": "--", "METAGGA": "--", "LDAU": False}
    functional |= {"IVDW": 0, "LUSE_VDW": False, "LNONCOLLINEAR": False, "LSORBIT": False, "LEPSILON": False}
    out = ["<modeling>", "<generator>", tag("program", "vasp"), tag("version", version), tag("subversion", "x")]
    out += ["</generator>", "<incar>", *(tag(k, v) for k, v in settings.items()), "</incar>"]
    out += ['<kpoints><generation param="Gamma"><v type="int" name="divisions"> 1 1 1 </v></generation>']
    out += [varray("kpointlist", [[0, 0, 0]]), varray("weights", [[1.0]]), "</kpoints>", "<parameters>"]
    out += [*(tag(k, v) for k, v in {**settings, **functional}.items()), "</parameters>", "<atominfo>"]
    out += ["<atoms>1</atoms><types>1</types>", '<array name="atoms"><set><rc><c>Cu</c><c>1</c></rc></set></array>']
    out += ['<array name="atomtypes"><set><rc><c>1</c><c>Cu</c><c>63.5</c><c>11.0</c><c> PAW_PBE Cu </c></rc></set>']
    out += ["</array></atominfo>", _structure("initialpos")]
    for step in steps:
        electronic = "" if step.electronic is None else _energies(step.electronic[0], step.electronic[1])
        out += ["<calculation>", *([f"<scstep>{electronic}</scstep>"] * 3 if electronic else []), _structure()]
        out += [varray("forces", [[step.force, 0, 0]]), varray("stress", np.eye(3)), _energies(step.free, step.own)]
        out += ["</calculation>"]
    (folder / "vasprun.xml").write_text("\n".join([*out, _structure("finalpos"), "</modeling>"]))
    (folder / "OUTCAR").write_text(
        f" vasp.{version}\n{said}\n General timing and accounting informations for this job:\n"
    )
    return folder


def _energies(free: float, zero: float) -> str:
    values = {"e_fr_energy": free, "e_wo_entrp": zero, "e_0_energy": zero}
    return f"<energy>{''.join(tag(name, float(value)) for name, value in values.items())}</energy>"


def _structure(name: str = "") -> str:
    cell = np.eye(3) * 2.3
    head = f'<structure name="{name}">' if name else "<structure>"
    crystal = f"<crystal>{varray('basis', cell)}{varray('rec_basis', np.linalg.inv(cell))}</crystal>"
    return f"{head}{crystal}{varray('positions', [[0, 0, 0]])}</structure>"
