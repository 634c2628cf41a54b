"""Frames out of files and stores: constraints, virials and their sign, labels in every place, scales of their own."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read

from dft.tables import FRAME_SCHEMA
from gnome_core.crystals.entries import SourceError
from gnome_core.potentials.frames import frames_from_table
from pipelines.errors import UserError
from pipelines.potentials.read_frames import read_frames

PULLS = np.array([[0.4, -0.1, 0.3], [-0.4, 0.1, -0.3]])


def copper() -> Atoms:
    """Two atoms off their places in a sheared cell, which EMT answers for."""
    atoms = bulk("Cu", cubic=True)[:2]
    atoms.set_cell(np.diag([3.5, 3.6, 7.0]) + 0.1 * np.triu(np.ones((3, 3)), 1), scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    return atoms


def extxyz(path: Path, atoms: Atoms, comment: str, forces: np.ndarray | None = None, column: str = "forces") -> str:
    """A file as other programs write it: with this in its comment line."""
    lattice = " ".join(f"{x:.10f}" for x in atoms.cell.array.ravel())
    properties = "species:S:1:pos:R:3" + ("" if forces is None else f":{column}:R:3")
    rows = [np.append(place, () if forces is None else forces[i]) for i, place in enumerate(atoms.positions)]
    lines = [f"{s} {' '.join(f'{x:.10f}' for x in row)}" for s, row in zip(atoms.symbols, rows, strict=True)]
    head = f'Lattice="{lattice}" Properties={properties} pbc="T T T" {comment}'
    path.write_text("\n".join([str(len(atoms)), head, *lines]) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "masks"),
    [("L:1", ["F", "T"]), ("L:1", ["F", "F"]), ("L:3", ["F T F", "T T T"]), ("L:3", ["F F F", "T F T"])],
)
def test_forces_of_fixed_atoms_are_data(kind, masks, tmp_path):
    """ASE writes constraints as move_mask, and its get_forces() makes zeros of what they hold."""
    atoms = copper()
    lines = Path(extxyz(tmp_path / "free.extxyz", atoms, "energy=-7", PULLS)).read_text().splitlines()
    lines[1] = lines[1].replace(" pbc", f":move_mask:{kind} pbc")
    lines[2:] = [f"{line} {mask}" for line, mask in zip(lines[2:], masks, strict=True)]
    (tmp_path / "fixed.extxyz").write_text("\n".join(lines) + "\n")
    held = read(tmp_path / "fixed.extxyz")
    assert held.constraints
    assert np.abs(held.get_forces() - PULLS).max() > 0.05, "what this is about"
    for name in ("free", "fixed"):
        np.testing.assert_allclose(read_frames(str(tmp_path / f"{name}.extxyz")).forces[0], PULLS)


def strain_derivative(atoms: Atoms) -> np.ndarray:
    """(3, 3) eV: dE/dstrain by central differences."""
    slope, step = np.zeros((3, 3)), 1e-4
    for i in range(3):
        for j in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                strained.calc = EMT()
                energies.append(strained.get_potential_energy())
            slope[i, j] = (energies[0] - energies[1]) / (2 * step)
    return slope


@pytest.mark.parametrize("key", ["virial", "virials"])
@pytest.mark.parametrize("voigt", [False, True])
def test_virials_are_minus_the_derivative_of_the_energy_by_strain(key, voigt, tmp_path):
    atoms = copper()
    virial = -strain_derivative(atoms)
    numbers = virial[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)] if voigt else virial.ravel()
    if voigt and key == "virial":
        key = "virials"  # ASE itself takes "virial" for nine numbers
    comment = f'energy={atoms.get_potential_energy()} {key}="{" ".join(map(str, numbers))}"'
    frames = read_frames(extxyz(tmp_path / "a.extxyz", atoms, comment, atoms.get_forces()))
    np.testing.assert_allclose(frames.stresses[0], atoms.get_stress(voigt=False), atol=2e-6)
    assert np.trace(frames.stresses[0]) > 0, "half of copper's atoms are missing: it wants to shrink"


def test_the_virial_of_a_cluster_is_the_sum_of_positions_times_forces(tmp_path):
    atoms = Atoms("Cu2", [[0, 0, 0], [2.0, 0.3, 0.1]], cell=[20, 20, 20], pbc=True)
    atoms.center()
    atoms.calc = EMT()
    forces = atoms.get_forces()
    virial = atoms.positions.T @ forces
    comment = f'energy={atoms.get_potential_energy()} virial="{" ".join(map(str, virial.ravel()))}"'
    frames = read_frames(extxyz(tmp_path / "a.extxyz", atoms, comment, forces))
    np.testing.assert_allclose(frames.stresses[0], atoms.get_stress(voigt=False), atol=1e-8)


def test_a_stress_goes_before_a_virial_and_neither_is_none(tmp_path):
    atoms, zeros = copper(), " ".join(["0"] * 9)
    for comment, expected in (
        (f'energy=1 stress="0.1 0 0 0 0.2 0 0 0 0.3" virial="{zeros}"', np.diag([0.1, 0.2, 0.3])),
        (f'energy=1 virial="{zeros}"', np.zeros((3, 3))),
        ("energy=1", np.full((3, 3), np.nan)),
    ):
        frames = read_frames(extxyz(tmp_path / "a.extxyz", atoms, comment, PULLS))
        np.testing.assert_allclose(frames.stresses[0], expected)


@pytest.mark.parametrize(
    ("comment", "column", "forces"),
    [("energy=-7.5", "force", PULLS), ("free_energy=-7.5", "forces", PULLS), ("energy=-7.5", "forces", PULLS)],
)
def test_labels_are_found_wherever_ase_puts_them(comment, column, forces, tmp_path):
    frames = read_frames(extxyz(tmp_path / "a.extxyz", copper(), comment, forces, column))
    assert frames.energies.tolist() == [-7.5]
    np.testing.assert_allclose(frames.forces[0], PULLS)


@pytest.mark.parametrize(
    ("comment", "forces", "message"),
    [
        ("energy=1", None, "configuration 0: no forces"),
        ("charge=1", PULLS, "configuration 0: no energy"),
        ('energy=1 virials="1 2 3 4"', PULLS, r"virials of shape \(4,\)"),
        ('energy=1 virials="1 2 3 4 5 6 7 8 9"', PULLS, "virials is not symmetric"),
        ('energy="1 2"', PULLS, r"energy of shape \(2,\)"),
        ("energy=abc", PULLS, "energy is 'abc', which is no number"),
        ("energy=1 virials=much", PULLS, "virials is 'much', which is no number"),
        ("energy=nan", PULLS, "energy or forces are not finite"),
    ],
)
def test_what_is_no_label_is_named(comment, forces, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_frames(extxyz(tmp_path / "a.extxyz", copper(), comment, forces))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.extxyz", "Cu@300K.xyz"])
def test_marks_of_editors_and_signs_in_names_change_nothing(encoding, name, tmp_path):
    path = Path(extxyz(tmp_path / name, copper(), "energy=-7.5", PULLS))
    path.write_bytes((2 * path.read_text()).encode(encoding))
    frames = read_frames(str(path))
    assert frames.energies.tolist() == [-7.5, -7.5]
    np.testing.assert_allclose(frames.forces, [PULLS, PULLS])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Cu", "Qq", r"ASE cannot read configuration 2 \(it knows no 'Qq'\)"),
        ("0.4", "zero", r"ASE cannot read configuration 2 \(could not convert string to float: 'zero\d*'\)"),
        ("species", "caf\udce9", "ASE cannot read it .*'utf-8' codec"),
        ("Properties=species:S:1:pos:R:3", "Properties=pos:R:3", "ASE cannot read configuration 2"),
        ("\nCu", "", "ASE cannot read configuration 2 .*expected 2"),
    ],
)
def test_what_ase_cannot_read_is_one_line_that_names_the_configuration(old, new, message, tmp_path):
    path = Path(extxyz(tmp_path / "a.extxyz", copper(), "energy=-7.5", PULLS))
    text = path.read_text()
    broken = text.replace(old, new, 1 if old == "\nCu" else -1)
    path.write_bytes((2 * text + broken).encode(errors="surrogateescape"))
    with pytest.raises(SourceError, match=message) as error:
        read_frames(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def rows(*frames: tuple[str, int]) -> pa.Table:
    """Frames (job, step) of one copper atom."""
    crystal = {"lattice": [2.5, 0, 0, 0, 2.5, 0, 0, 0, 2.5], "frac_coords": [0.0] * 3, "numbers": [29]}
    labels = {"energy": -1.0, "forces": [0.0] * 3, "stress": [0.0] * 9, "scale": "r2scan/vasp", "calculation": "relax2"}
    return pa.Table.from_pylist([{"job": j, "step": s, **crystal, **labels} for j, s in frames], FRAME_SCHEMA)


def test_the_first_frame_is_that_of_the_rows_at_hand():
    """Where a job's first relaxation is on another scale, its step 0 is not among them."""
    frames = frames_from_table(rows(("a", 4), ("a", 3), ("b", 0), ("b", 1), ("c", 7)))
    assert frames.first.tolist() == [False, True, True, False, True]
