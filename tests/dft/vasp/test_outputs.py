"""What VASP, custodian and job stores leave behind, read back; real VASP output where a package brings some."""

import gzip
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

from dft.jobs.engine import OutputError
from dft.vasp.outputs import read_custodian, read_task, read_vasp, read_vasprun, vasprun_frames
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_KBAR as KBAR
from tests.dft.vasp.small_run import HARD_STOP, REACHED, SOFT_STOP, Step, write_run

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
    frames = vasprun_frames(read_vasprun(path).ionic_steps, theirs.vasp_version, path.name)
    if not theirs.vasp_version.startswith("5"):
        assert [f.energy for f in frames] == pytest.approx([float(step["e_0_energy"]) for step in theirs.ionic_steps])
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
    (frame,) = vasprun_frames([step], "6.4.3", "here")
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


def as_document(folder, version, settings=None):
    """The task document that a job store would keep of a folder's run."""
    from monty.json import MontyEncoder

    steps = json.loads(json.dumps(read_vasprun(folder / "vasprun.xml").ionic_steps, cls=MontyEncoder))
    for step in steps:
        for name in ("forces", "stress"):
            step[name] = step[name]["data"] if isinstance(step[name], dict) else step[name]
    calculation = {
        "output": {"ionic_steps": steps},
        "input": {"hubbards": {}, "potcar": ["Cu"], "parameters": settings or {}},
        "run_type": "GGA",
        "has_vasp_completed": True,
        "vasp_version": version,
    }
    return {"calcs_reversed": [calculation], "state": "successful"}


# What versions write into an ionic step's e_0_energy: VASP 5.4 a zero, 5.3 another energy, 6 the energy itself. The
# free energy holds the dispersion of -0.5 eV, which electronic steps know nothing of.
VERSIONS = {
    "5.4.4.18Apr17": Step(-4.26, 0.0, (-3.76, -3.75)),
    "5.3.5": Step(-4.26, -4.24, (-3.76, -3.75)),
    "5.2.12": Step(-4.26, 0.01, (-3.76, -3.75)),
    "6.4.3": Step(-4.26, -4.25, (-3.76, -3.75)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_energy_at_no_smearing_is_that_of_every_version(version, tmp_path):
    from pymatgen.io.vasp.outputs import Vasprun

    folder = write_run(tmp_path, [VERSIONS[version]], version)
    theirs = Vasprun(folder / "vasprun.xml", parse_dos=False, parse_eigen=False, parse_potcar_file=False)
    (frame,) = read_vasp(folder, bands=False).frames
    assert frame.energy == pytest.approx(-4.25, abs=1e-7)
    assert frame.energy == pytest.approx(float(theirs.final_energy), abs=1e-7)
    (frame,) = read_task(as_document(folder, version), "document").frames
    assert frame.energy == pytest.approx(-4.25, abs=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("version", "known"), [("6.4.3", True), ("5.4.4", False), ("", False)])
def test_without_electronic_steps_only_vasp_6_is_understood(version, known, tmp_path):
    folder = write_run(tmp_path, [Step(-4.26, -4.25, None)], version or "5.4.4")
    document = as_document(folder, version)
    if known:
        assert read_task(document, "document").frames[0].energy == -4.25
        return
    with pytest.raises(OutputError, match="lacks the energies of its electronic steps") as caught:
        read_task(document, "document")
    assert caught.value.reason == "unknown_energy"


MOVING = [Step(-3.75, -3.75, (-3.75, -3.75), 0.8), Step(-3.751, -3.751, (-3.751, -3.751), 0.7)]
RESTING = [*MOVING, Step(-3.76, -3.76, (-3.76, -3.76), 0.001)]
RELAXATION = {"NSW": 99, "IBRION": 2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("steps", "said", "incar", "failure"),
    [
        (MOVING, SOFT_STOP, RELAXATION, "not_converged"),
        (MOVING, HARD_STOP, RELAXATION, "not_converged"),
        (MOVING[:1], SOFT_STOP, RELAXATION, "not_converged"),
        (MOVING[:1], SOFT_STOP, {"NSW": 1, "IBRION": 1}, "not_converged"),
        (MOVING[:1], HARD_STOP, {"NSW": 0}, "not_converged"),
        (RESTING, REACHED, RELAXATION, ""),
        (RESTING, REACHED, {"NSW": 3, "IBRION": 2}, ""),
        (RESTING[-1:], "", {"NSW": 0}, ""),
    ],
)
def test_a_relaxation_has_converged_if_the_outcar_says_so(steps, said, incar, failure, tmp_path):
    folder = write_run(tmp_path, steps, said=said, **incar)
    assert read_vasp(folder, bands=False).failure == failure
    log = [{"job": {}, "corrections": [{"errors": ["Walltime reached"], "actions": []}]}]
    (folder / "custodian.json").write_text(json.dumps(log))
    assert read_vasp(folder, bands=False).failure == (failure and "wall_time"), "and custodian says why"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("steps", "settings", "failure"),
    [
        (MOVING, {**RELAXATION, "EDIFFG": -0.02}, "not_converged"),
        (MOVING, {**RELAXATION, "EDIFFG": 1e-4}, "not_converged"),
        (MOVING[:1], {**RELAXATION, "EDIFFG": 1e-4}, "not_converged"),
        (RESTING, {**RELAXATION, "EDIFFG": -0.02}, ""),
        (RESTING[-1:] * 2, {**RELAXATION, "EDIFFG": 1e-4}, ""),
        (MOVING, {}, ""),  # a static
    ],
)
def test_a_document_that_says_success_is_held_to_its_own_criterion(steps, settings, failure, tmp_path):
    folder = write_run(tmp_path, steps, said=SOFT_STOP, **RELAXATION)
    document = as_document(folder, "6.4.3", settings)
    assert read_task(document, "document").failure == failure
    document["custodian"] = [{"corrections": [{"errors": ["Walltime reached"], "actions": []}]}]
    over = read_task(document, "document").failure
    assert over == ("wall_time" if settings else ""), "what the wall time ended nothing vouches for"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_small_runs_cut_anywhere_are_truncated(share, tmp_path):
    folder = write_run(tmp_path, RESTING, said=REACHED, **RELAXATION)
    whole = (folder / "vasprun.xml").read_text()
    (folder / "vasprun.xml").write_text(whole[: int(share * len(whole))])
    with pytest.raises(OutputError) as caught:
        read_vasp(folder, bands=False)
    assert caught.value.reason == "truncated_output"
