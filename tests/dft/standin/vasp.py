"""The stand-in executable: reads INCAR, POSCAR, KPOINTS and POTCAR of the working folder, writes what VASP writes.

Energies, forces, stress and moments come from the server of `energies.py` at STANDIN_SOCKET, those of molecular
dynamics from `dynamics.py`; bands are a toy with the gap `toy_gap`. STANDIN_FAULTS makes starts fail as VASP does:
"NAME:N" for the first N starts in a folder, or JSON file {start of a job's id: "NAME:N"}. Names: brmix, edddav, zbrent,
nonconv, unconverged_ionic (custodian mends these), crash, truncated_xml, wall_time, disk_full; killed, of molecular
dynamics, halfway.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import spglib

from gnome_core.compositions.formulas import NUMBERS
from tests.dft.standin.dynamics import dynamics

KBAR = 1602.1766208  # in one eV/Å^3
BOLTZMANN = 8.617333262e-5  # eV/K
ORBITALS = ("s", "py", "pz", "px", "dxy", "dyz", "dz2", "dxz", "x2-y2")
NONMETALS = {1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 51, 52, 53, 54}


# Input


def read_incar() -> dict:
    incar = {}
    for line in Path("INCAR").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals:
            incar[key.strip()] = parse(value.strip())
    return incar


def parse(text: str):
    """One INCAR value: logical, integer, float, a list of numbers (with repeats, 3*0.6), or text."""
    if text.strip(".").lower() in ("true", "false", "t", "f"):
        return text.strip(".").lower().startswith("t")
    words = []
    for word in text.split():
        times, star, value = word.rpartition("*")
        words += [value] * (int(times) if star and times.isdigit() else 1)
    try:
        numbers = [int(word) if re.fullmatch(r"[+-]?\d+", word) else float(word) for word in words]
    except ValueError:
        return text
    return numbers[0] if len(numbers) == 1 and "*" not in text else numbers


class Cell:
    """lattice (3, 3) Å; frac (n, 3); species and counts as in the POSCAR; numbers (n,)."""

    def __init__(self, lattice, frac, species, counts):
        self.lattice, self.frac = np.array(lattice, float), np.array(frac, float)
        self.species, self.counts = species, counts
        self.symbols = [symbol for symbol, count in zip(species, counts, strict=True) for _ in range(count)]
        self.numbers = [NUMBERS[symbol] for symbol in self.symbols]

    @property
    def volume(self) -> float:
        return abs(float(np.linalg.det(self.lattice)))

    def moved(self, frame: dict) -> Cell:
        return Cell(frame["lattice"], frame["frac_coords"], self.species, self.counts)


def read_poscar() -> Cell:
    lines = Path("POSCAR").read_text().splitlines()
    lattice = float(lines[1]) * np.array([line.split() for line in lines[2:5]], float)
    species, counts = lines[5].split(), [int(n) for n in lines[6].split()]
    assert lines[7].strip().lower().startswith("d"), "the stand-in reads direct coordinates"
    frac = np.array([line.split()[:3] for line in lines[8 : 8 + sum(counts)]], float)
    return Cell(lattice, frac, species, counts)


def read_velocities(cell: Cell) -> np.ndarray | None:
    """(n, 3) Å/fs, where the POSCAR goes on with them."""
    rows = Path("POSCAR").read_text().splitlines()[9 + len(cell.symbols) :][: len(cell.symbols)]
    return np.array([row.split()[:3] for row in rows], float) if rows else None


def read_potcar(cell: Cell) -> tuple[list[str], dict[str, float]]:
    text = Path("POTCAR").read_text()
    titels = re.findall(r"TITEL\s*=\s*(.+?)\s*\n", text)
    valences = [float(z) for z in re.findall(r"ZVAL\s*=\s*([\d.]+)", text)]
    elements = [re.match("[A-Z][a-z]?", titel.split()[1])[0] for titel in titels]
    if elements != cell.species:
        print(f" ERROR: POTCAR has {elements}, POSCAR {cell.species}", flush=True)
        raise SystemExit(1)
    return titels, dict(zip(elements, valences, strict=True))


class Mesh:
    """style: Gamma, Monkhorst or Reciprocal (a list); points (n, 3) fractional; weights (n,) sum to one."""

    def __init__(self, style, divisions, points, weights):
        self.style, self.divisions, self.points = style, divisions, np.array(points, float)
        self.weights = np.array(weights, float) / np.sum(weights)


def read_mesh(incar: dict, cell: Cell) -> Mesh:
    if Path("KPOINTS").exists():
        lines = Path("KPOINTS").read_text().splitlines()
        count, style = int(lines[1]), lines[2].strip().capitalize()
        if count:
            rows = np.array([line.split()[:4] for line in lines[3 : 3 + count]], float)
            return Mesh("Reciprocal", None, rows[:, :3], rows[:, 3])
        divisions = [int(n) for n in lines[3].split()[:3]]
    else:
        style, spacing = "Gamma", float(incar.get("KSPACING", 0.5))
        reciprocal = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell.lattice).T, axis=1)
        divisions = [max(1, math.ceil(length / spacing)) for length in reciprocal]
    shift = [int(style.startswith("M") and n % 2 == 0) for n in divisions]
    grid, points = spglib.get_ir_reciprocal_mesh(divisions, (cell.lattice, cell.frac, cell.numbers), is_shift=shift)
    rows, weights = np.unique(grid, return_counts=True)
    return Mesh(style, divisions, (points[rows] + np.array(shift) / 2) / divisions, weights)


# What is computed


def ionic_steps(cell: Cell, steps: int) -> list[dict]:
    request = {"lattice": cell.lattice.tolist(), "frac_coords": cell.frac.tolist(), "numbers": cell.numbers}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.environ["STANDIN_SOCKET"])
        client.sendall(json.dumps({**request, "steps": steps}).encode() + b"\n")
        return json.loads(client.makefile().readline())


def toy_gap(numbers) -> float:
    """eV; 0 for metals and their alloys."""
    numbers = list(numbers)
    return 20.0 / (sum(numbers) / len(numbers)) if set(numbers) & NONMETALS else 0.0


def toy_bands(cell: Cell, mesh: Mesh, electrons: float) -> np.ndarray:
    """(k-points, bands, 2) energy and occupation; the Fermi energy is 0."""
    gap, occupied = toy_gap(cell.numbers), max(1, round(electrons / 2))
    width = np.cos(2 * np.pi * mesh.points).sum(axis=1) / 3 - 1  # 0 at gamma, below elsewhere
    bands = np.zeros((len(mesh.points), occupied + 4, 2))
    for band in range(occupied + 4):
        below = band < occupied
        offset = -0.6 * (occupied - 1 - band) if below else gap + 0.8 * (band - occupied)
        bands[:, band, 0] = offset - gap / 2 + (0.4 * width if below else -0.4 * width)
    if gap == 0:  # metals cross the Fermi energy
        bands[:, occupied - 1, 0] += 0.2
        bands[:, occupied, 0] -= 0.2
    bands[..., 1] = bands[..., 0] <= 0
    return bands


# Faults


def fault() -> str:
    """The fault of this start, or ""."""
    state = Path(".starts")
    start = int(state.read_text()) + 1 if state.exists() else 1
    state.write_text(str(start))
    asked = os.environ.get("STANDIN_FAULTS", "")
    if asked.endswith(".json"):
        table = json.loads(Path(asked).read_text())
        asked = next((f for job, f in table.items() if f"/{job}" in os.getcwd()), "")
    name, _, times = asked.partition(":")
    return name if name and start <= int(times) else ""


# Output


def tag(name: str, value) -> str:
    if isinstance(value, bool):
        return f'<i type="logical" name="{name}"> {"T" if value else "F"} </i>'
    if isinstance(value, int):
        return f'<i type="int" name="{name}">{value:6d}</i>'
    if isinstance(value, float):
        return f'<i name="{name}">{value:16.8f}</i>'
    if isinstance(value, list):
        kind = ' type="int"' if all(isinstance(v, int) for v in value) else ""
        return f'<v{kind} name="{name}">{" ".join(map(str, value))}</v>'
    return f'<i type="string" name="{name}">{escape(str(value))}</i>'


def varray(name: str, rows) -> str:
    lines = (f"<v>{' '.join(f'{x:16.8f}' for x in np.atleast_1d(row))} </v>" for row in rows)
    return "\n".join([f'<varray name="{name}" >', *lines, "</varray>"])


def structure_xml(cell: Cell, name: str = "") -> str:
    head = f'<structure name="{name}" >' if name else "<structure>"
    basis, reciprocal = varray("basis", cell.lattice), varray("rec_basis", np.linalg.inv(cell.lattice).T)
    volume = f'<i name="volume">{cell.volume:16.8f} </i>'
    positions = varray("positions", cell.frac)
    return "\n".join([head, "<crystal>", basis, volume, reciprocal, "</crystal>", positions, "</structure>"])


def energy_xml(energy: float) -> str:
    names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    return "<energy>" + "".join(f'<i name="{name}">{energy:16.8f} </i>' for name in names) + "</energy>"


def parameters(incar: dict, run: Run) -> dict:
    """The padded settings of vasprun.xml. AEXX, HFSCREEN, LHFCALC and LDAU decide what pymatgen calls the run."""
    return {
        "PREC": "accura",
        "ENMAX": float(incar.get("ENCUT", 400.0)),
        "NELM": run.nelm,
        "EDIFF": float(incar.get("EDIFF", 1e-4)),
        "EDIFFG": float(incar.get("EDIFFG", 10 * float(incar.get("EDIFF", 1e-4)))),
        "NSW": run.nsw,
        "IBRION": int(incar.get("IBRION", 2 if run.nsw else -1)),
        "ISIF": int(incar.get("ISIF", 2)),
        "ISPIN": run.spins,
        "ICHARG": int(incar.get("ICHARG", 2)),
        "ISMEAR": int(incar.get("ISMEAR", 1)),
        "SIGMA": float(incar.get("SIGMA", 0.2)),
        "ISYM": int(incar.get("ISYM", 2)),
        "SYMPREC": 1e-5,
        "POTIM": float(incar.get("POTIM", 0.5)),
        "NELECT": run.electrons,
        "NBANDS": run.bands.shape[1],
        "KSPACING": float(incar.get("KSPACING", 0.5)),
        "KGAMMA": True,
        "GGA": str(incar.get("GGA", "--")),
        "METAGGA": str(incar.get("METAGGA", "--")),
        "LHFCALC": False,
        "AEXX": 0.0,
        "HFSCREEN": 0.0,
        "LASPH": bool(incar.get("LASPH", False)),
        "LORBIT": int(incar.get("LORBIT", 0)),
        "LREAL": bool(incar.get("LREAL", False)),
        "LWAVE": bool(incar.get("LWAVE", True)),
        "LCHARG": bool(incar.get("LCHARG", True)),
        "LNONCOLLINEAR": False,
        "LSORBIT": False,
        "LEPSILON": False,
        "LCHIMAG": False,
        "IVDW": 0,
        "LUSE_VDW": False,
        "NUPDOWN": -1.0,
        "ADDGRID": bool(incar.get("ADDGRID", False)),
        "LMAXMIX": int(incar.get("LMAXMIX", 2)),
        "NGX": 24,
        "NGY": 24,
        "NGZ": 24,
        "ISTART": 0,
        "ALGO": str(incar.get("ALGO", "Normal")),
        "NPAR": 1,
        "EFERMI": 0.0,
        "LELF": False,
        "PSTRESS": 0.0,
        "MAGMOM": [float(m) for m in incar.get("MAGMOM", [1.0] * len(run.cell.symbols))],
        "LDAU": bool(incar.get("LDAU", False)),
        **{name: incar[name] for name in ("LDAUL", "LDAUU", "LDAUJ", "LDAUTYPE") if name in incar},
    }


class Run:
    """Everything about one start that its output files share."""

    def __init__(self):
        self.incar, self.cell = read_incar(), read_poscar()
        self.titels, self.valence = read_potcar(self.cell)
        self.mesh = read_mesh(self.incar, self.cell)
        self.nsw, self.nelm = int(self.incar.get("NSW", 0)), int(self.incar.get("NELM", 60))
        self.spins = int(self.incar.get("ISPIN", 1))
        self.electrons = sum(self.valence[symbol] for symbol in self.cell.symbols)
        self.bands = toy_bands(self.cell, self.mesh, self.electrons)
        self.electronic_steps = 4
        self.converged = True
        self.frames: list[dict] = []
        self.moves = self.nsw > 0 and int(self.incar.get("IBRION", 2)) == 0
        self.after: np.ndarray | None = None  # where dynamics leaves the atoms, which no frame has
        self.velocities: np.ndarray | None = None

    def move(self, steps: int) -> None:
        cell = self.cell
        self.frames, self.after, self.velocities = dynamics(
            cell.lattice, cell.frac, cell.symbols, read_velocities(cell), self.incar, steps
        )

    @property
    def final(self) -> Cell:
        end = self.cell.moved(self.frames[-1])
        return end if self.after is None else Cell(end.lattice, self.after, end.species, end.counts)

    @property
    def moments(self) -> list[float]:
        return self.frames[-1]["magmoms"] if self.spins == 2 else [0.0] * len(self.cell.symbols)


def write_vasprun(run: Run, cut: bool) -> None:
    incar, cell, mesh = run.incar, run.cell, run.mesh
    out = ['<?xml version="1.0" encoding="ISO-8859-1"?>', "<modeling>", "<generator>"]
    generator = {"program": "vasp ", "version": "6.4.3  ", "subversion": "stand-in complex", "platform": "TESTS "}
    out += [tag(name, value) for name, value in {**generator, "date": "2026 01 01 ", "time": "00:00:00 "}.items()]
    out += ["</generator>", "<incar>", *(tag(k, v) for k, v in incar.items()), "</incar>", "<kpoints>"]
    if mesh.divisions:
        out.append(f'<generation param="{"Gamma" if mesh.style[0] == "G" else "Monkhorst-Pack"}">')
        out.append(f'<v type="int" name="divisions"> {" ".join(map(str, mesh.divisions))} </v>')
        out.append('<v name="usershift"> 0.0 0.0 0.0 </v>')
        for i, n in enumerate(mesh.divisions):
            row = " ".join(f"{1 / n if i == j else 0:.8f}" for j in range(3))
            out.append(f'<v name="genvec{i + 1}"> {row} </v>')
        out += ['<v name="shift"> 0.0 0.0 0.0 </v>', "</generation>"]
    out += [varray("kpointlist", mesh.points), varray("weights", mesh.weights), "</kpoints>", "<parameters>"]
    out += ['<separator name="general" >', *(tag(k, v) for k, v in parameters(incar, run).items()), "</separator>"]
    out += ["</parameters>", "<atominfo>", f"<atoms>{len(cell.symbols)}</atoms>", f"<types>{len(cell.species)}</types>"]
    out += ['<array name="atoms" >', '<dimension dim="1">ion</dimension>', '<field type="string">element</field>']
    out += ['<field type="int">atomtype</field>', "<set>"]
    out += [f"<rc><c>{s:2s}</c><c>{cell.species.index(s) + 1:4d}</c></rc>" for s in cell.symbols]
    out += ["</set>", "</array>", '<array name="atomtypes" >', '<dimension dim="1">type</dimension>']
    fields = ('type="int">atomspertype', 'type="string">element', ">mass", ">valence", 'type="string">pseudopotential')
    out += [f"<field {field}</field>".replace("<field >", "<field>") for field in fields] + ["<set>"]
    for symbol, count, titel in zip(cell.species, cell.counts, run.titels, strict=True):
        out.append(f"<rc><c>{count}</c><c>{symbol}</c><c>1.0</c><c>{run.valence[symbol]}</c><c> {titel} </c></rc>")
    out += ["</set>", "</array>", "</atominfo>", structure_xml(cell, "initialpos")]
    for number, frame in enumerate(run.frames):
        out.append("<calculation>")
        out += [f"<scstep>{energy_xml(frame['energy'])}</scstep>"] * run.electronic_steps
        out += [structure_xml(cell.moved(frame)), varray("forces", frame["forces"])]
        out += [varray("stress", -KBAR * np.array(frame["stress"])), energy_xml(frame["energy"])]
        if number == len(run.frames) - 1:
            out += eigenvalues_xml(run) + dos_xml(run)
        out += ['<time name="totalsc">    0.10    0.10</time>', "</calculation>"]
    out += [structure_xml(run.final, "finalpos"), "</modeling>"]
    Path("vasprun.xml").write_text("\n".join(out[: len(out) // 2] if cut else out) + "\n")


def eigenvalues_xml(run: Run) -> list[str]:
    out = ["<eigenvalues>", "<array>", '<dimension dim="1">band</dimension>', '<dimension dim="2">kpoint</dimension>']
    out += ['<dimension dim="3">spin</dimension>', "<field>eigene</field>", "<field>occ</field>", "<set>"]
    for spin in range(run.spins):
        out.append(f'<set comment="spin {spin + 1}">')
        for k, bands in enumerate(run.bands):
            out += [f'<set comment="kpoint {k + 1}">', *(f"<r>{e:12.4f} {o:8.4f} </r>" for e, o in bands), "</set>"]
        out.append("</set>")
    return [*out, "</set>", "</array>", "</eigenvalues>"]


def dos_xml(run: Run) -> list[str]:
    """A coarse density of states, spread evenly over the orbitals where LORBIT asks for them."""
    energies = np.linspace(run.bands[..., 0].min() - 1, run.bands[..., 0].max() + 1, 51)
    near = np.exp(-(((energies[:, None, None] - run.bands[..., 0]) / 0.2) ** 2))
    density = (near * run.mesh.weights[:, None]).sum(axis=(1, 2)) * 2 / run.spins / (0.2 * math.sqrt(math.pi))
    total = np.cumsum(density) * (energies[1] - energies[0])
    dimensions = ['<dimension dim="1">gridpoints</dimension>', '<dimension dim="2">spin</dimension>']
    out = ["<dos>", '<i name="efermi">      0.00000000 </i>', "<total>", "<array>", *dimensions]
    out += ["<field>energy</field>", "<field>total</field>", "<field>integrated</field>", "<set>"]
    for spin in range(run.spins):
        rows = zip(energies, density, total, strict=True)
        out += [f'<set comment="spin {spin + 1}">', *(f"<r>{e:.4f} {d:.4f} {t:.4f} </r>" for e, d, t in rows), "</set>"]
    out += ["</set>", "</array>", "</total>"]
    if int(run.incar.get("LORBIT", 0)) >= 11:
        out += ["<partial>", "<array>", *dimensions, '<dimension dim="3">ion</dimension>', "<field>energy</field>"]
        out += [f"<field>{name:>5s}</field>" for name in ORBITALS] + ["<set>"]
        share = density / len(run.cell.symbols) / 9
        for ion in range(len(run.cell.symbols)):
            out.append(f'<set comment="ion {ion + 1}">')
            for spin in range(run.spins):
                rows = (f"<r>{e:.4f} {' '.join([f'{d:.4f}'] * 9)} </r>" for e, d in zip(energies, share, strict=True))
                out += [f'<set comment="spin {spin + 1}">', *rows, "</set>"]
            out.append("</set>")
        out += ["</set>", "</array>", "</partial>"]
    return [*out, "</dos>"]


def write_outcar(run: Run) -> None:
    cell, mesh, ruler = run.cell, run.mesh, " " + "-" * 83
    out = [" vasp.6.4.3 stand-in complex", " executed on             TESTS date 2026.01.01  00:00:00"]
    out += [" running on    1 total cores", " INCAR:", f"   ISPIN  = {run.spins:6d}", f"   NSW    = {run.nsw:6d}"]
    out += [f"   IBRION = {int(run.incar.get('IBRION', 2 if run.nsw else -1)):6d}"]
    out += [f"   NELM   = {run.nelm:6d};", "   LEPSILON=      F", "   LNONCOLLINEAR =      F", "   LCALCPOL=      F"]
    n = len(mesh.points)
    out.append(
        f"   k-points           NKPTS ={n:7d}   k-points in BZ     NKDIM ={n:7d}   number of bands    "
        f"NBANDS={run.bands.shape[1]:7d}"
    )
    out += [" total plane-waves  NPLWV =  13824", f"   NELECT = {run.electrons:12.4f}    total number of electrons"]
    out += ["\n\n" + "-" * 104 + "\n\n"]
    for i, point in enumerate(mesh.points):
        out.append(f" k-point{i + 1:4d} :  {''.join(f'{x:8.4f}' for x in point)}  plane waves:    1000")
    out += ["", " maximum and minimum number of plane-waves per node :      1000     1000", ""]
    for number, frame in enumerate(run.frames, 1):
        energy, stress = frame["energy"], -KBAR * np.array(frame["stress"])
        out += [f"{'-' * 39} Iteration {number:6d}({run.electronic_steps:4d})  {'-' * 39}", ""]
        if run.electronic_steps < run.nelm:
            out += [f"{'-' * 24} aborting loop because EDIFF is reached {'-' * 40}", ""]
        out += [" E-fermi :   0.0000     XC(G=0):  -8.0000     alpha+bet : -5.0000", ""]
        out += ["  FORCE on cell =-STRESS in cart. coord.  units (eV):"]
        six = (stress[0, 0], stress[1, 1], stress[2, 2], stress[0, 1], stress[1, 2], stress[2, 0])
        out += ["  in kB  " + " ".join(f"{x:11.5f}" for x in six)]
        out += [f"  external pressure = {np.trace(stress) / 3:11.2f} kB  Pullay stress =        0.00 kB", ""]
        out += [" POSITION                                       TOTAL-FORCE (eV/Angst)", ruler]
        moved = cell.moved(frame)
        for place, force in zip(moved.frac @ moved.lattice, frame["forces"], strict=True):
            out.append(" " + " ".join(f"{x:12.5f}" for x in (*place, *force)))
        out += [ruler, "    total drift:                                0.000000      0.000000      0.000000", ""]
        out += ["  entropy T*S    EENTRO =        -0.00000000", f"  free  energy   TOTEN  = {energy:17.8f} eV", ""]
        out += [f"  energy  without entropy= {energy:17.8f}  energy(sigma->0) = {energy:17.8f}", ""]
        out += ["      LOOP+:  cpu time    0.1000: real time    0.1000", ""]
    if run.nsw and run.converged and not run.moves:
        out.append(" reached required accuracy - stopping structural energy minimisation")
    out.append(f" number of electron {run.electrons:15.7f} magnetization {sum(run.moments):15.7f}")
    head = "# of ion       s       p       d       tot"
    for title in ["total charge"] + (["magnetization (x)"] if run.spins == 2 else []):
        values = run.moments if title.startswith("magnet") else [0.0] * len(cell.symbols)
        out += ["", f" {title}", " ", head, "-" * 42]
        out += [f"{i + 1:5d}        0.000   0.000 {m:7.3f} {m:7.3f}" for i, m in enumerate(values)]
        out += ["-" * 42, f"tot          0.000   0.000 {sum(values):7.3f} {sum(values):7.3f}"]
    out += ["", " General timing and accounting informations for this job:", " ====", ""]
    for name in ("Total CPU time used", "User time", "System time", "Elapsed time"):
        out.append(f"   {name} (sec): {0.1:11.3f}")
    out += ["", "   Maximum memory used (kb):      100000.", "   Average memory used (kb):          N/A", ""]
    Path("OUTCAR.part").write_text("\n".join(out) + "\n")
    os.replace("OUTCAR.part", "OUTCAR")  # VASP's grows line by line: a monitor never finds it empty


def write_rest(run: Run) -> None:
    """OSZICAR, which is also said aloud, CONTCAR, CHGCAR, XDATCAR, IBZKPT and the empty WAVECAR that LWAVE=F leaves."""
    lines = []
    for number, frame in enumerate(run.frames, 1):
        lines.append("       N       E                     dE             d eps       ncg     rms          rms(c)")
        for i in range(1, run.electronic_steps + 1):
            lines.append(f"DAV:{i:4d}    {frame['energy']:18.12E}   -0.1E-01  -0.1E-01   100   0.1E-01    0.1E-01")
        e = frame["energy"]
        if run.moves:
            t, kinetic = frame["temperature"], 1.5 * len(run.cell.symbols) * BOLTZMANN * frame["temperature"]
            said = f"F= {e:.8E} E0= {e:.8E}  EK= {kinetic:.5E} SP= 0.00E+00 SK= 0.00E+00"
            lines.append(f"{number:7d} T= {t:6.0f}. E= {e + kinetic:.8E} {said}")
            continue
        lines.append(f"{number:4d} F= {e:.8E} E0= {e:.8E}  d E ={e:.6E}  mag= {sum(run.moments):10.4f}")
    Path("OSZICAR").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
    if run.nsw and run.converged and not run.moves:
        print(" reached required accuracy - stopping structural energy minimisation", flush=True)
    head = Path("POSCAR").read_text().splitlines()[0]
    final, counts = run.final, " ".join(map(str, run.cell.counts))
    rows = [" ".join(f"{x:20.16f}" for x in row) for row in (*final.lattice, *final.frac)]
    poscar = [head, "1.0", *rows[:3], " ".join(run.cell.species), counts, "Direct", *rows[3:]]
    moving = [] if run.velocities is None else ["", *(" ".join(f"{x:16.8E}" for x in row) for row in run.velocities)]
    Path("CONTCAR").write_text("\n".join([*poscar, *moving]) + "\n")
    Path("XDATCAR").write_text("\n".join([*poscar[:7], "Direct configuration=     1", *rows[3:]]) + "\n")
    points = [f"{' '.join(f'{x:.14f}' for x in p)} 1" for p in run.mesh.points]
    Path("IBZKPT").write_text("\n".join(["mesh", str(len(points)), "Reciprocal lattice", *points]) + "\n")
    Path("WAVECAR").touch()
    if run.incar.get("LCHARG", True):
        block = ["", "    2    2    2", " ".join(["1.0"] * 8)]
        Path("CHGCAR").write_text("\n".join([*poscar, *block, *(block[1:] if run.spins == 2 else [])]) + "\n")


def move(run: Run, failing: str) -> int:
    """Molecular dynamics to its end, or by a fault to its middle."""
    run.move(run.nsw // 2 if failing in ("killed", "wall_time") else run.nsw)
    if failing == "wall_time":
        write_outcar(run)
        while not Path("STOPCAR").exists():
            time.sleep(0.05)
    write_rest(run)
    write_vasprun(run, cut=False)
    write_outcar(run)
    if failing == "killed":  # the last step was not written yet, the one before half
        text = Path("vasprun.xml").read_text()
        Path("vasprun.xml").write_text(text[: text.rindex("<calculation>") - 200])
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def main() -> int:
    failing = fault()
    print(" running on    1 total cores\n vasp.6.4.3 stand-in complex\n POSCAR found", flush=True)
    if failing == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if failing == "disk_full":
        print("forrtl: No space left on device\nforrtl: severe (38): error during write", file=sys.stderr, flush=True)
        return 38
    said = {
        "brmix": " BRMIX: very serious problems",
        "edddav": " Error EDDDAV: Call to ZHEGV failed. Returncode =   6",
        "zbrent": " ZBRENT: fatal error in bracketing",
    }
    if failing in said:
        print(said[failing], flush=True)
    if failing == "edddav":
        return 1
    run = Run()
    if int(run.incar.get("ICHARG", 2)) >= 10 and not Path("CHGCAR").exists():
        print(" ERROR: charge density could not be read from file CHGCAR for ICHARG>10", flush=True)
        return 1
    if run.moves:
        return move(run, failing)
    relaxes = run.nsw > 0 and int(run.incar.get("IBRION", 2)) in (1, 2, 3)
    run.frames = ionic_steps(run.cell, run.nsw if relaxes else 1)
    if relaxes:
        run.frames.append(run.frames[-1])  # VASP ends when the energy no longer changes
    if failing == "nonconv":
        run.electronic_steps = run.nelm
    if failing == "unconverged_ionic" and relaxes:
        run.converged = False
        run.frames = (run.frames + [run.frames[-1]] * run.nsw)[: run.nsw]
    if failing == "wall_time" and relaxes:  # an ionic step takes for ever; only a STOPCAR or a signal ends it
        run.converged, run.frames = False, run.frames[:2]
        write_outcar(run)
        while not Path("STOPCAR").exists():
            time.sleep(0.05)
    write_rest(run)
    write_vasprun(run, cut=failing == "truncated_xml")
    write_outcar(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
