"""Relaxations that keep the cell, a pressure, or the symmetry."""

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import symmetry_dataset
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.constraints import Constraints, Symmetry
from gnome_core.potentials.relax import Relaxation, relax
from gnome_core.potentials.stillinger_weber import StillingerWeber
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA
from tests.gnome_core.potentials.samples import FCC

STRETCHED = Crystal(5.6 * FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [14, 14])
TIGHT = RelaxConfig(fmax=1e-3)


def relaxed(crystal: Crystal, constraints: Constraints) -> Relaxation:
    (found,) = relax([crystal], StillingerWeber(), TIGHT, constraints=[constraints])
    assert isinstance(found, Relaxation), found
    return found


def test_a_fixed_cell_stays_while_atoms_move():
    moved = Crystal(STRETCHED.lattice, [[0, 0, 0], [0.27, 0.25, 0.24]], [14, 14])
    found = relaxed(moved, Constraints(cell=False))
    np.testing.assert_array_equal(found.crystal.lattice, moved.lattice)
    apart = found.crystal.frac_coords[1] - found.crystal.frac_coords[0]
    np.testing.assert_allclose(apart, 0.25, atol=1e-3)


def test_under_pressure_the_stress_is_minus_the_pressure():
    pressure = 10 / EV_PER_CUBIC_ANGSTROM_IN_GPA
    free, squeezed = (relaxed(STRETCHED, Constraints(pressure=p)) for p in (0.0, pressure))
    np.testing.assert_allclose(squeezed.frames[-1].stress, -pressure * np.eye(3), atol=2e-4)
    modulus = -10 * free.crystal.volume / (squeezed.crystal.volume - free.crystal.volume)
    assert 100 < modulus < 140  # GPa; 101 at zero pressure (Stillinger and Weber's silicon), rising with it


def test_symmetry_averages_forces_and_stress():
    symmetry = Symmetry.of(STRETCHED)
    assert len(symmetry.rotations) == 48
    rng = np.random.default_rng(0)
    forces, stress = symmetry.average(STRETCHED, rng.normal(size=(2, 3)), np.diag([1.0, 2.0, 6.0]))
    np.testing.assert_allclose(forces, 0, atol=1e-12)
    np.testing.assert_allclose(stress, 3 * np.eye(3), atol=1e-9)


@pytest.mark.parametrize("keep", [True, False])
def test_a_kept_symmetry_outlives_forces_that_break_it(keep):
    class Leaning(StillingerWeber):
        """Silicon in a field that pulls one atom along x."""

        def evaluate(self, crystals):
            answers = super().evaluate(crystals)
            for answer in answers:
                answer.forces[:] += [[0.3, 0, 0], [-0.3, 0, 0]]
            return answers

    own = Constraints(symmetry=Symmetry.of(STRETCHED) if keep else None)
    (found,) = relax([STRETCHED], Leaning(), TIGHT, constraints=[own])
    dataset = symmetry_dataset(found.frames[-1].crystal, 1e-3)
    assert dataset is not None
    assert (dataset.number == 227) == keep


def test_without_symmetry_the_identity_is_left():
    crystal = Crystal(np.diag([4.0, 5.0, 6.0]) + 0.3, [[0.1, 0.2, 0.3], [0.4, 0.8, 0.6]], [14, 8])
    assert len(Symmetry.of(crystal).rotations) == 1
