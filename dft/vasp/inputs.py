"""VASP input files: pymatgen's input sets with GNoME's k-point meshes and potentials."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import moyopy
from pymatgen.core import SETTINGS, Structure
from pymatgen.io.vasp.inputs import Incar, Kpoints, PmgVaspPspDirError, Potcar, PotcarSingle
from pymatgen.io.vasp.sets import (
    MPMDSet,
    MPNonSCFSet,
    MPRelaxSet,
    MPScanRelaxSet,
    MPScanStaticSet,
    MPStaticSet,
    VaspInputSet,
)

from dft.config import VaspConfig
from dft.protocol import (
    NEWER_FAMILY,
    NEWER_POTENTIALS,
    PANEL,
    VASP_PROTOCOLS,
    VaspStep,
    aimd_steps,
    inputs_hash,
    mesh_divisions,
)
from gnome_core.crystals.convert import to_structure
from gnome_core.errors import GnomeError

FACE_CENTRED = frozenset({22, 42, 43, 69, 70, 196, 202, 203, 209, 210, 216, 219, 225, 226, 227, 228})  # space groups F


class MissingPotcar(GnomeError, LookupError):
    """A POTCAR that the library lacks, or no library at all; the message says what to do."""


class _Potentials(VaspInputSet):
    """Newer files for the elements that GNoME took them for; everything else as the Materials Project has it."""

    @property
    def families(self) -> list[str]:
        """POTCAR family of each species, in the order of the POSCAR."""
        return [family_of(symbol, self.user_potcar_functional) for symbol in self.poscar.site_symbols]

    @property
    def potcar(self) -> Potcar:
        """Raises MissingPotcar."""
        potcar = Potcar()
        potcar.extend(map(potcar_single, self.potcar_symbols, self.families))
        return potcar


class _Mesh(_Potentials):
    """GNoME's mesh; a set asks for it several times a structure."""

    _meshed: tuple[Structure | None, Kpoints | None] = (None, None)

    def _mesh(self, density: float) -> Kpoints:
        structure, made = self._meshed
        if made is None or structure is not self.structure:
            made = mesh(self.structure, density)
            self._meshed = (self.structure, made)
        return made


class RelaxSet(_Mesh, MPRelaxSet):
    """Relaxation of cell and positions."""

    @property
    def kpoints(self) -> Kpoints:
        return self._mesh(self._config_dict["KPOINTS"]["reciprocal_density"])


class StaticSet(_Mesh, MPStaticSet):
    """Energy of the relaxed crystal on a denser mesh."""

    @property
    def kpoints(self) -> Kpoints:
        return self._mesh(self.reciprocal_density)


class LineSet(_Potentials, MPNonSCFSet):
    """Bands along the symmetry lines, in the static's charge density."""


class ScanRelaxSet(_Potentials, MPScanRelaxSet):
    """r2SCAN relaxation."""


class ScanStaticSet(_Potentials, MPScanStaticSet):
    """r2SCAN energy."""


class MolecularDynamicsSet(_Potentials, MPMDSet):
    """NVT dynamics without spin, at the gamma point."""

    @property
    def incar(self) -> Incar:
        incar = super().incar
        incar["ISIF"] = 2  # stresses too, of which potentials learn
        incar["EDIFF"] = incar.pop("EDIFF_PER_ATOM") * len(self.poscar.structure)  # VASP knows no such tag
        return incar


SETS: dict[str, type[VaspInputSet]] = {
    kind.__name__: kind for kind in (RelaxSet, StaticSet, LineSet, ScanRelaxSet, ScanStaticSet, MolecularDynamicsSet)
}


def mesh(structure: Structure | None, density: float) -> Kpoints:
    """A mesh of `density` points per 1/Å^3 of the reciprocal cell, with pymatgen's divisions.

    Gamma-centred for hexagonal cells only, else Monkhorst-Pack; face-centred lattices get odd divisions, since an even
    Monkhorst-Pack mesh lacks their symmetry.
    """
    assert structure is not None, "a set makes meshes for the structure it was given"
    lattice = structure.lattice
    divisions = mesh_divisions(lattice.matrix, density)
    comment = f"{density:g} points per 1/A^3"
    if lattice.is_hexagonal():
        return Kpoints(comment, 0, Kpoints.supported_modes.Gamma, [divisions])
    if any(n % 2 == 0 for n in divisions) and _is_face_centred(structure):
        divisions = tuple(n + 1 - n % 2 for n in divisions)
    return Kpoints(comment, 0, Kpoints.supported_modes.Monkhorst, [divisions])


def _is_face_centred(structure: Structure) -> bool:
    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), [site.specie.Z for site in structure]
    )
    try:
        return moyopy.MoyoDataset(cell, symprec=0.01).number in FACE_CENTRED
    except Exception:  # moyopy raises a plain exception where it finds no symmetry
        return False


def library_problem() -> str | None:
    """Why there is no POTCAR library at all, or None."""
    folder = SETTINGS.get("PMG_VASP_PSP_DIR")
    if not folder:
        return "no POTCAR library: set PMG_VASP_PSP_DIR to the folder that `pmg config -p` made"
    return None if Path(folder).is_dir() else f"PMG_VASP_PSP_DIR is {folder}, which is no folder; correct it"


@cache
def potcar_single(symbol: str, family: str) -> PotcarSingle:
    """One POTCAR of pymatgen's library. Raises MissingPotcar naming it and the remedy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return PotcarSingle.from_symbol_and_functional(symbol, family)
        except PmgVaspPspDirError as error:
            raise MissingPotcar(library_problem() or str(error)) from error
        except (OSError, ValueError) as error:
            raise MissingPotcar(
                f"the POTCAR library lacks {symbol} of {family}; add it with `pmg config -p` from VASP's portal"
            ) from error


@cache
def potcar_of(step: VaspStep, symbol: str) -> tuple[str, str]:
    """(POTCAR symbol, family) of an element in a step."""
    inputs = make_set(step)
    name = inputs._config_dict["POTCAR"].get(symbol, symbol)
    return name, family_of(symbol, inputs.user_potcar_functional)


def family_of(symbol: str, family: str | None) -> str:
    """The POTCAR family an element is taken from in a set of `family`."""
    return NEWER_FAMILY if symbol in NEWER_POTENTIALS else family or "PBE"


def make_set(step: VaspStep) -> VaspInputSet:
    """The step's input set; give it a structure with `get_input_set`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # choices that the protocol makes on purpose
        return SETS[step.input_set](**step.settings)


_set_of_process = cache(make_set)


def vasp_steps(config: VaspConfig) -> tuple[VaspStep, ...]:
    """The calculations of the protocol that is set."""
    if config.protocol == "aimd":
        aimd = config.aimd
        return aimd_steps(aimd.temperature, aimd.start_temperature, aimd.timestep, aimd.ramp, aimd.duration)
    return VASP_PROTOCOLS[config.protocol]


def step_files(
    step: VaspStep, structure: Structure, previous: Path | None = None, potcar: bool = False
) -> dict[str, bytes]:
    """INCAR, POSCAR, KPOINTS (unless KSPACING serves) and POTCAR.spec, or with `potcar` the POTCAR, of one step.

    previous: folder of the step before, for steps that read it; without it its gap counts as unknown.
    Raises MissingPotcar.
    """
    # One set serves many structures: making one costs more than its files.
    inputs = _set_of_process(step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # metals relaxed with tetrahedra, Yb_2: dft.jobs.preflight reports what matters
        if previous is not None and step.reads_previous:
            inputs = make_set(step)  # it keeps what it reads
            made = inputs.get_input_set(structure, prev_dir=previous, potcar_spec=True)
        else:
            made = inputs.get_input_set(structure, potcar_spec=True)
        files = {name: str(made[name]) for name in ("INCAR", "POSCAR", "KPOINTS") if made.get(name)}
        files["POTCAR" if potcar else "POTCAR.spec"] = str(inputs.potcar) if potcar else str(made["POTCAR.spec"]) + "\n"
    return {name: content.encode() for name, content in files.items()}


@cache
def protocol_hash(steps: tuple[VaspStep, ...]) -> str:
    """Hash of the input files that a protocol's calculations get for the crystals of `PANEL`."""
    files = {
        f"{number}/{step.name}/{name}": content
        for number, crystal in enumerate(PANEL)
        for step in steps
        for name, content in step_files(step, to_structure(crystal)).items()
    }
    return inputs_hash(files)
