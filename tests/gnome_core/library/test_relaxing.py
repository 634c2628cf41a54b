"""Relaxed crystals of the kind given with their energies, calculators, and failures that are told."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones
from pymatgen.core import Structure

import gnome_core
from gnome_core.errors import GnomeError
from gnome_core.library.relaxing import NotRelaxed
from gnome_core.potentials.potential import Evaluation

SILICON = bulk("Si", a=5.6)
SALT = bulk("NaCl", "rocksalt", a=5.64)
SW = "stillinger-weber"


def test_each_kind_comes_back_relaxed_with_its_energy():
    atoms, structure = gnome_core.relax([SILICON, gnome_core.to_structures(SILICON)], SW, fmax=1e-3)
    assert isinstance(atoms, Atoms)
    assert isinstance(structure, Structure)
    assert structure.volume == pytest.approx(5.431**3 / 4, rel=1e-3)
    assert atoms.get_volume() == pytest.approx(structure.volume)
    assert atoms.get_potential_energy() / 2 == pytest.approx(-4.3366, abs=1e-3)  # Stillinger-Weber's diamond
    assert structure.properties["energy_per_atom"] == pytest.approx(atoms.get_potential_energy() / 2)
    assert np.abs(atoms.get_forces()).max() < 1e-3
    atoms.calc = gnome_core.calculator(SW)
    assert atoms.get_potential_energy() / 2 == pytest.approx(structure.properties["energy_per_atom"])


def test_constraints_hold():
    fixed = gnome_core.relax(SILICON, SW, fixed_cell=True)
    np.testing.assert_allclose(fixed.cell.array, SILICON.cell.array)
    free, pressed = (gnome_core.relax(SILICON, SW, pressure=p, keep_symmetry=True) for p in (0.0, 10.0))
    assert pressed.get_volume() < 0.95 * free.get_volume()


def test_any_ase_calculator_relaxes():
    argon = bulk("Ar", "fcc", a=5.0)
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=10.0, smooth=True)
    relaxed = gnome_core.relax(argon, calculator, fmax=1e-3)
    relaxed.calc = calculator
    assert np.abs(relaxed.get_stress()).max() * relaxed.get_volume() < 1e-2
    assert gnome_core.relax(SILICON, gnome_core.calculator(SW)).get_potential_energy() == pytest.approx(
        gnome_core.relax(SILICON, SW).get_potential_energy()
    )


def test_what_is_not_relaxed_is_told():
    with pytest.warns(UserWarning, match="1 of 2 crystals not relaxed: unknown_element 1"):
        silicon, salt = gnome_core.relax([SILICON, SALT], SW)
    assert salt is None
    assert isinstance(silicon, Atoms)
    with pytest.raises(NotRelaxed, match="unknown_element"):
        gnome_core.relax(SALT, SW)
    with pytest.raises(GnomeError, match="no potential 'nonsense'; there are"):
        gnome_core.relax(SALT, "nonsense")


class Magnetic:
    """Forces of none, one moment an atom."""

    scale = "magnetic"

    def check(self, crystal):
        pass

    def evaluate(self, crystals):
        return [Evaluation(-1.0, np.zeros((c.n_sites, 3)), np.zeros((3, 3)), np.arange(c.n_sites)) for c in crystals]


def test_moments_come_with_the_calculator_and_the_relaxed_atoms():
    from gnome_core.potentials.ase_calculator import PotentialCalculator

    atoms = SALT.copy()
    atoms.calc = PotentialCalculator(Magnetic())
    assert atoms.get_magnetic_moments().tolist() == [0, 1]
    assert atoms.get_magnetic_moment() == 1
    assert gnome_core.relax(SALT, Magnetic()).get_magnetic_moments().tolist() == [0, 1]
    silicon = SILICON.copy()
    silicon.calc = gnome_core.calculator(SW)
    with pytest.raises(PropertyNotImplementedError):
        silicon.get_magnetic_moments()
