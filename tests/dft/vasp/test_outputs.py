"""What VASP, custodian and job stores leave behind, read back; real VASP output where a package brings some."""

import gzip
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

from dft.jobs.engine import OutputError
from dft.vasp.outputs import read_custodian, read_vasprun, vasprun_frames
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_KBAR as KBAR

ASE = Path(importlib.util.find_spec("ase").origin).parent
# Written by VASP 6.3; pymatgen's own test files, with relaxations of many steps, where someone has them.
REAL = sorted((ASE / "test/testdata/vasp").glob("vasprun*.xml"))
REAL += sorted(Path(os.environ.get("PMG_TEST_FILES_DIR", "nowhere")).glob("io/vasp/outputs/vasprun*.xml.gz"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_output_has_the_energies_that_pymatgen_and_ase_read(path):
    import ase.io
    from pymatgen.io.vasp.outputs import Vasprun

    theirs = Vasprun(path, parse_potcar_file=False, parse_dos=False, parse_eigen=False)
    frames = vasprun_frames(read_vasprun(path).ionic_steps)
    assert [f.energy for f in frames] == [float(step["e_0_energy"]) for step in theirs.ionic_steps]
    assert frames[-1].energy == pytest.approx(float(theirs.final_energy))
    images = ase.io.read(path, index=":", format="vasp-xml")
    for frame, atoms in zip(frames, images, strict=True):
        if "PSTRESS" not in theirs.incar:  # whose work ASE takes off
            assert frame.energy == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-8)
        six = [frame.stress[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
        np.testing.assert_allclose(six, atoms.get_stress(), atol=1e-5)
        np.testing.assert_allclose(frame.crystal.lattice, atoms.cell.array)
        assert frame.crystal.numbers.tolist() == atoms.numbers.tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_output_is_named(share, tmp_path):
    whole = REAL[0].read_bytes()
    path = tmp_path / "vasprun.xml.gz"
    path.write_bytes(gzip.compress(whole[: int(share * len(whole))]))
    with pytest.raises(OutputError, match=r"vasprun\.xml\.gz is no whole vasprun") as caught:
        read_vasprun(path)
    assert caught.value.reason == "truncated_output"
    path.write_bytes(gzip.compress(whole)[:1000])
    with pytest.raises(OutputError):
        read_vasprun(path)


def test_stress_is_tension_positive_in_ev_per_cubic_angstrom():
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(3), ["Mg"], [[0, 0, 0]])
    step = {"structure": structure, "e_0_energy": -1.5, "forces": [[0, 0, 0]], "stress": np.eye(3) * 50}
    (frame,) = vasprun_frames([step])
    np.testing.assert_allclose(frame.stress, np.eye(3) * -50 / KBAR)  # VASP: 50 kbar of pressure, it wants to grow


@pytest.mark.parametrize(
    ("actions", "changed"),
    [
        ([{"dict": "INCAR", "action": {"_set": {"ALGO": "All", "ISTART": 1}}}], False),
        ([{"file": "CHGCAR", "action": {"_file_delete": {"mode": "actual"}}}], False),
        ([{"file": "CONTCAR", "action": {"_file_copy": {"dest": "POSCAR"}}}], False),
        ([{"dict": "INCAR", "action": {"_set": {"ISMEAR": 0}}}], True),
        ([{"dict": "INCAR", "action": {"_set": {"NELM": 200, "ENCUT": 600}}}], True),
        ([{"dict": "KPOINTS", "action": {"_set": {"generation_style": "Gamma"}}}], True),
    ],
)
def test_fixes_that_change_what_is_computed_are_flagged(actions, changed, tmp_path):
    log = [{"job": {}, "corrections": [{"errors": ["brmix"], "actions": actions}]}]
    (tmp_path / "custodian.json").write_text(json.dumps(log))
    fixes, flagged, over = read_custodian(tmp_path)
    assert (flagged, over) == (changed, False)
    assert len(fixes) == 1
    assert fixes[0].startswith("brmix: ")


def test_a_run_without_custodian_has_no_fixes(tmp_path):
    assert read_custodian(tmp_path) == ((), False, False)
