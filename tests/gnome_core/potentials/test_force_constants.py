"""Supercells and force constants against what is known in closed form, and against CHGNet's silicon."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.analysis.phonons import vibrations
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import symmetry_dataset
from gnome_core.models.elements import ATOMIC_MASSES
from gnome_core.potentials import force_constants
from gnome_core.potentials.force_constants import NoPhonons, harmonic, supercell_matrix
from tests.gnome_core.potentials.samples import COPPER, FCC, ROCKSALT, published
from tests.gnome_core.potentials.springs import THZ, Springs

pytest.importorskip("phonopy")
BOND = 3.6 / np.sqrt(2)  # of COPPER, Å
X, L = (0.5, 0.5, 0), (0.5, 0.5, 0.5)


def frequencies(found, point) -> np.ndarray:
    return found.run_qpoints([point]).frequencies[0]


def shortest(lattice: np.ndarray) -> float:
    steps = np.indices((9, 9, 9)).reshape(3, -1).T - 4
    return np.linalg.norm(steps[steps.any(axis=1)] @ lattice, axis=1).min()


def test_springs_of_an_fcc_crystal_have_the_frequencies_of_the_formula():
    spring = Springs(BOND)
    found = harmonic(COPPER, spring, 8.0)
    unit = THZ * np.sqrt(spring.stiffness / ATOMIC_MASSES[29])
    assert frequencies(found, (0, 0, 0)) == pytest.approx(np.zeros(3), abs=1e-4)
    # Born and von Karman: D = k/M sum of n n (1 - cos q R) over the twelve neighbours.
    assert frequencies(found, X) == pytest.approx(unit * np.sqrt([4, 4, 8]), rel=2e-3)
    assert frequencies(found, L) == pytest.approx(unit * np.sqrt([2, 2, 8]), rel=2e-3)


def test_two_masses_on_springs_move_against_each_other():
    found = harmonic(ROCKSALT, spring := Springs(2.8), 5.0)
    optical = THZ * np.sqrt(2 * spring.stiffness * (1 / ATOMIC_MASSES[11] + 1 / ATOMIC_MASSES[17]))
    assert frequencies(found, (0, 0, 0)) == pytest.approx([0, 0, 0, optical, optical, optical], rel=2e-3, abs=1e-4)


def test_a_crystal_displaced_along_its_imaginary_mode_has_less_energy():
    cubic = Crystal(3 * np.eye(3), [[0, 0, 0]], [29])
    squeezed = Springs(3.15)  # too long for their cell: they push atoms out of the rows
    found = harmonic(cubic, squeezed, 5.0)
    found.run_qpoints([(0.5, 0, 0)], with_eigenvectors=True)
    known = -THZ * np.sqrt(4 * squeezed.stiffness * 0.05 / ATOMIC_MASSES[29])
    assert found.qpoints.frequencies[0, :2] == pytest.approx([known, known], rel=0.02)
    mode = found.qpoints.eigenvectors[0, :, 0].real
    pair = [
        Crystal(np.diag([6.0, 3, 3]), [step * mode / [6, 3, 3], [0.5, 0, 0] - step * mode / [6, 3, 3]], [29, 29])
        for step in (0.0, 0.1)
    ]
    at_rest, displaced = squeezed.evaluate(pair)
    assert displaced.energy < at_rest.energy - 1e-3
    assert vibrations(found).lowest == pytest.approx(frequencies(found, (0.5, 0.5, 0)).min(), rel=0.02)


def test_atoms_that_are_far_apart_move_in_one_evaluation_with_the_same_answer(monkeypatch):
    # A rod of eight atoms along 28 Å: springs of 1.2 lengths do not reach from one moved atom to the next.
    long = Crystal(np.diag([4.0, 4.2, 28.0]), [[0, 0, (i + 0.02 * (i % 3)) / 8] for i in range(8)], [29] * 8)
    spring = Springs(3.6)
    together = harmonic(long, spring, 4.0)
    asked = spring.evaluated
    monkeypatch.setattr(
        force_constants, "_apart", lambda distances, least: [np.array([i]) for i in range(len(distances))]
    )
    alone = harmonic(long, spring, 4.0)
    assert asked < spring.evaluated - asked
    assert together.force_constants == pytest.approx(alone.force_constants, abs=1e-6)


def test_silicon_by_chgnet_keeps_still_as_a_whole_and_vibrates_as_measured():
    # Modes at Gamma repeat in every cell, so that one is enough.
    found = harmonic(Crystal(5.46 * FCC, [[0, 0, 0], [0.25] * 3], [14, 14]), published(), 3.0)
    at_gamma = frequencies(found, (0, 0, 0))
    assert at_gamma[:3] == pytest.approx(np.zeros(3), abs=1e-3)
    assert at_gamma[3:] == pytest.approx(np.full(3, at_gamma[3:].mean()), rel=1e-3)
    assert at_gamma[5] == pytest.approx(15.5, rel=0.3)  # CHGNet is known to be too soft


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(2.5, 7.0), min_size=3, max_size=3), st.floats(-0.3, 0.3), st.floats(5.0, 9.0))
def test_a_supercell_keeps_images_apart_and_the_symmetry(lengths, lean, length):
    crystal = Crystal(np.diag(lengths) + [[0, 0, 0], [lean * lengths[0], 0, 0], [0, 0, 0]], [[0, 0, 0]], [29])
    matrix = supercell_matrix(crystal, length)
    cell = matrix @ crystal.lattice
    assert shortest(cell) >= length - 1e-6
    rotations = np.swapaxes(symmetry_dataset(crystal, 1e-3).operations.rotations, 1, 2)
    turned = matrix @ rotations @ np.linalg.inv(matrix)
    assert turned == pytest.approx(np.round(turned), abs=1e-6)


@pytest.mark.parametrize(("cell", "length", "size"), [(COPPER, 7.6, 27), (COPPER, 3.0, 4), (ROCKSALT, 3.0, 1)])
def test_supercells_of_cubic_crystals_are_the_smallest(cell, length, size):
    assert round(np.linalg.det(supercell_matrix(cell, length))) == size


def test_overlapping_atoms_have_no_phonons():
    with pytest.raises(NoPhonons, match="atoms overlap") as caught:
        supercell_matrix(Crystal(3 * np.eye(3), [[0, 0, 0], [0, 0, 1e-6]], [29, 29]), 5.0)
    assert caught.value.reason == "no_symmetry"
