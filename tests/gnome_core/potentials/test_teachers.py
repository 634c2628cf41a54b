"""Stillinger-Weber, ASE calculators both ways, and potentials by name."""

import numpy as np
import pytest
from ase.calculators.lj import LennardJones

from gnome_core.crystals.convert import to_atoms
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.potentials.ase_calculator import CalculatorPotential, PotentialCalculator
from gnome_core.potentials.by_name import UnknownPotential, make_potential
from gnome_core.potentials.sampling import alchemical, denoising_frames, distorted
from gnome_core.potentials.stillinger_weber import StillingerWeber
from tests.gnome_core.potentials.samples import COPPER, FCC, SKEWED, supercell

SILICON = Crystal(5.431 * FCC, [[0, 0, 0], [0.25] * 3], [14, 14])


def lennard_jones() -> LennardJones:
    return LennardJones(sigma=2.3, epsilon=0.4, rc=6.0, smooth=True)


def test_silicon_has_the_published_cohesion_and_lattice_constant():
    (at_rest,) = StillingerWeber().evaluate([SILICON])
    assert at_rest.energy / 2 == pytest.approx(-2 * 2.1683, abs=1e-3)  # every bond of the diamond lattice: -1 epsilon
    assert np.abs(at_rest.forces).max() < 1e-4
    assert np.abs(at_rest.stress).max() * 160.2 < 0.05  # GPa


def test_stillinger_webers_forces_and_stress_are_slopes_of_its_energy():
    rng = np.random.default_rng(0)
    crystal = distorted(supercell(SILICON, (2, 1, 1)), rng, 0.3, 0.05)
    teacher = StillingerWeber()
    (here,) = teacher.evaluate([crystal])
    h = 1e-3
    step = np.zeros((4, 3))
    step[2, 1] = h
    moved = [
        Crystal(crystal.lattice, crystal.frac_coords + s * step @ np.linalg.inv(crystal.lattice), crystal.numbers)
        for s in (1, -1)
    ]
    up, down = teacher.evaluate(moved)
    assert here.forces[2, 1] == pytest.approx(-(up.energy - down.energy) / (2 * h), abs=2e-3)
    up, down = teacher.evaluate([crystal.scaled_to_volume(crystal.volume * np.exp(3 * s * h)) for s in (1, -1)])
    assert np.trace(here.stress) * crystal.volume == pytest.approx((up.energy - down.energy) / (2 * h), abs=0.05)
    with pytest.raises(ValueError, match="silicon only"):
        teacher.evaluate([COPPER])


def test_a_calculator_and_a_potential_turn_into_each_other():
    crystal = supercell(COPPER, (2, 1, 1))
    atoms = to_atoms(crystal)
    atoms.calc = lennard_jones()
    potential = CalculatorPotential(lennard_jones(), "lj")
    (answer,) = potential.evaluate([crystal])
    assert answer.energy == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(answer.forces, atoms.get_forces(), atol=1e-9)
    again = to_atoms(crystal)
    again.calc = PotentialCalculator(potential)
    assert again.get_potential_energy() == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(again.get_forces(), atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose(again.get_stress(), atoms.get_stress(), atol=1e-9)
    again.pbc = (True, True, False)
    with pytest.raises(InvalidCrystal, match="bulk crystal"):
        again.get_potential_energy()


def test_potentials_are_made_by_name_and_wrong_names_explained():
    assert make_potential("stillinger-weber").scale == "stillinger-weber-si"
    named = make_potential("ase:tests.gnome_core.potentials.test_teachers:lennard_jones")
    (answer,) = named.evaluate([COPPER])
    assert answer.energy < 0
    for name, message in (("chgnot", "no potential 'chgnot'"), ("ase:math:nothing", "must be importable")):
        with pytest.raises(ValueError, match=message):
            make_potential(name)


def test_distorted_crystals_keep_their_atoms_and_stay_within_the_sizes_asked_for():
    rng = np.random.default_rng(0)
    copies = [distorted(SKEWED, rng, 0.2, 0.05) for _ in range(200)]
    strains = np.array([np.linalg.inv(SKEWED.lattice) @ c.lattice - np.eye(3) for c in copies])
    moves = np.array([(c.frac_coords - SKEWED.frac_coords) @ c.lattice for c in copies])
    np.testing.assert_allclose(strains, strains.swapaxes(1, 2), atol=1e-12)
    assert 0.2 / 3 < moves.std() < 0.2
    assert moves.std((1, 2)).min() < 0.05 * moves.std((1, 2)).max()
    assert all((c.numbers == SKEWED.numbers).all() for c in copies)


def test_alchemical_structures_have_the_other_elements_distances():
    germanium = alchemical(SILICON, 32, 2.45, 2.352)
    assert germanium.lattice == pytest.approx(SILICON.lattice * 2.45 / 2.352)
    assert germanium.numbers.tolist() == [32, 32]


def test_denoising_labels_lead_back_to_the_sites():
    frames = denoising_frames([SKEWED, SILICON], copies=3, rattle=0.1, stiffness=2.0)
    assert len(frames) == 6
    for crystal, origin, forces, energy in zip(
        frames.crystals, [SKEWED] * 3 + [SILICON] * 3, frames.forces, frames.energies, strict=True
    ):
        away = crystal.positions - origin.positions
        np.testing.assert_allclose(forces, -2.0 * away, atol=1e-9)
        assert energy == pytest.approx(np.square(away).sum())


CALCULATOR = """
from ase.calculators.emt import EMT

def make():
    calculator = EMT()
    calculator.identity = {identity!r}
    return calculator
"""


def test_a_calculator_in_a_file_is_known_by_its_content_and_by_what_it_says_of_itself(tmp_path):
    path = tmp_path / "mine.py"
    scales = []
    for identity in ("weights 1", "weights 2"):
        path.write_text(CALCULATOR.format(identity=identity))
        potential = make_potential(f"ase:{path}:make")
        scales.append(potential.scale)
    assert scales[0].startswith("ase:mine.py:make/")
    assert scales[0].endswith("/weights 1")
    assert scales[0].split("/")[1] != scales[1].split("/")[1]
    (answer,) = potential.evaluate([COPPER])
    assert answer.energy == pytest.approx(0.0, abs=0.1)  # EMT's zero is the metal
    path.write_text("def make(:\n")
    for name in (f"ase:{path}:make", f"ase:{tmp_path / 'none.py'}:make"):
        with pytest.raises(UnknownPotential, match="a file of Python"):
            make_potential(name)
