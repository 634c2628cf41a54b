"""GNoME's settings as input files: compared with stored ones, and rule by rule."""

from pathlib import Path

import numpy as np
import pytest

from dft.config import EspressoConfig
from dft.espresso.inputs import protocol_hash as espresso_hash
from dft.protocol import PANEL, PINNED, VASP_PROTOCOLS, mesh_divisions
from dft.vasp.inputs import MissingPotcar, make_set, mesh, potcar_of, protocol_hash, step_files
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries

EXPECTED = Path(__file__).parent / "expected"
STORED = sorted(path.relative_to(EXPECTED) for path in EXPECTED.rglob("*") if path.is_file())
FCC = np.ones((3, 3)) - np.eye(3)


@pytest.mark.parametrize("path", STORED, ids=str)
def test_inputs_are_the_stored_ones(path):
    """Fe, Li and O: +U, moments, LMAXMIX, a potential of the newer set."""
    protocol, step, name = path.parts
    (one,) = [one for one in VASP_PROTOCOLS[protocol] if one.name == step]
    made = step_files(one, to_structure(PANEL[2]))[name].decode()
    stored = (EXPECTED / path).read_text()
    assert _words(made) == _words(stored)


def _words(text: str) -> list:
    """Words, with numbers to 1e-9: the last digit of a cosine is the machine's."""
    return [
        round(float(w), 9) + 0.0 if w.lstrip("-").replace(".", "").isdigit() or "e-" in w else w for w in text.split()
    ]


@pytest.mark.parametrize("protocol", VASP_PROTOCOLS)
def test_protocols_make_the_inputs_they_are_pinned_to(protocol):
    assert protocol_hash(VASP_PROTOCOLS[protocol]) == PINNED[protocol]


def test_espresso_is_pinned_and_its_hash_follows_what_decides_a_result():
    assert espresso_hash(EspressoConfig()) == PINNED["espresso"]
    assert espresso_hash(EspressoConfig(ecutwfc=80)) != PINNED["espresso"]
    assert espresso_hash(EspressoConfig(command="mpirun pw.x", pseudopotentials="elsewhere")) == PINNED["espresso"]


def test_meshes_are_gamma_centred_for_hexagonal_cells_only():
    """ZnO is hexagonal; NaCl is face-centred, where an even Monkhorst-Pack mesh lacks the lattice's symmetry."""
    assert mesh(to_structure(PANEL[1]), 64).style.name == "Gamma"
    for crystal in (PANEL[0], PANEL[2]):
        assert mesh(to_structure(crystal), 64).style.name == "Monkhorst"
    assert mesh(to_structure(PANEL[2]), 64).kpts[0] == (8, 8, 5)
    for scale in np.linspace(0.8, 1.3, 7):
        salt = Crystal(PANEL[0].lattice * scale, PANEL[0].frac_coords, PANEL[0].numbers)
        assert all(n % 2 for n in mesh(to_structure(salt), 64).kpts[0])


def test_mesh_divisions_are_pymatgens():
    from pymatgen.io.vasp.inputs import Kpoints

    for crystal in crystals_from_batch(embedded_entries().slice(0, 40)):
        ours = mesh_divisions(crystal.lattice, 64)
        theirs = Kpoints.automatic_density_by_vol(to_structure(crystal), 64).kpts[0]
        assert ours == tuple(theirs)


def test_five_elements_come_from_the_newer_potentials(vasp_environment):
    structure = to_structure(Crystal(FCC * 3, [[0, 0, 0], [0.5] * 3, [0.25] * 3], [11, 17, 12]))
    inputs = make_set(VASP_PROTOCOLS["pbe"][0])
    inputs.structure = structure
    titels = {single.symbol: single.TITEL for single in inputs.potcar}
    assert titels == {
        "Na_pv": "PAW_PBE Na_pv 19Sep2006",
        "Mg_pv": "PAW_PBE Mg_pv 13Apr2007",
        "Cl": "PAW_PBE Cl 17Jan2003",
    }
    assert potcar_of(VASP_PROTOCOLS["pbe"][0], "Fe") == ("Fe_pv", "PBE")
    assert potcar_of(VASP_PROTOCOLS["r2scan"][0], "W") == ("W_sv", "PBE_54")


def test_a_missing_potential_is_named_with_the_remedy(vasp_environment):
    with pytest.raises(MissingPotcar, match=r"lacks Te of PBE.*pmg config"):
        step_files(VASP_PROTOCOLS["pbe"][0], to_structure(Crystal(np.eye(3) * 4, [[0, 0, 0]], [52])), potcar=True)


def test_molecular_dynamics_is_nvt_without_spin_at_2_fs():
    """5 ps from 300 to 1,000 K by rescaled velocities, then 45 ps there by a Nosé thermostat."""
    ramp, held = (step_files(step, to_structure(PANEL[2]))["INCAR"].decode() for step in VASP_PROTOCOLS["aimd"])
    for incar in (ramp, held):
        for line in ("ISPIN = 1", "POTIM = 2.0", "IBRION = 0", "ISIF = 2"):
            assert line in incar
        assert "EDIFF_PER_ATOM" not in incar
    for line in ("SMASS = -1", "TEBEG = 300.0", "TEEND = 1000.0", "NSW = 2500"):
        assert line in ramp
    for line in ("SMASS = 0", "TEBEG = 1000.0", "TEEND = 1000.0", "NSW = 22500"):
        assert line in held
