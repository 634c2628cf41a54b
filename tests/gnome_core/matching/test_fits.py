import numpy as np
import pytest
from pymatgen.core.structure_matcher import StructureMatcher

from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.fits import fit, possible_fits
from gnome_core.matching.reduced import reduce_crystal, reduce_crystals


def random_crystal(rng: np.random.Generator, n_atoms: int) -> Crystal:
    lattice = np.eye(3) * n_atoms ** (1 / 3) * 2.3 + rng.normal(0, 0.6, (3, 3))
    numbers = np.sort(rng.choice([8, 14, 22], n_atoms, p=[0.5, 0.3, 0.2]))
    return Crystal(lattice, rng.random((n_atoms, 3)), numbers)


def disturbed(crystal: Crystal, rng: np.random.Generator, size: float) -> Crystal:
    """Strained by `size` / 5, atoms moved by up to about `size` Å in a cell of 12 Å^3 an atom."""
    lattice = crystal.lattice @ (np.eye(3) + rng.normal(0, size / 5, (3, 3)))
    shift = rng.normal(0, size / 2, (crystal.n_sites, 3)) @ np.linalg.inv(lattice)
    return Crystal(lattice, crystal.frac_coords + shift + rng.random(3), crystal.numbers)


def supercell(crystal: Crystal, axis: int) -> Crystal:
    lattice = crystal.lattice.copy()
    lattice[axis] *= 2
    frac = crystal.frac_coords.copy()
    frac[:, axis] /= 2
    step = np.eye(3)[axis] / 2
    return Crystal(lattice, np.vstack([frac, frac + step]), np.tile(crystal.numbers, 2))


@pytest.mark.parametrize("n_atoms", [1, 2, 4, 7, 12])
def test_equals_the_matcher_around_its_tolerances(n_atoms):
    rng = np.random.default_rng(n_atoms)
    matcher = StructureMatcher()
    answers = []
    for _ in range(60):
        first = random_crystal(rng, n_atoms)
        second = disturbed(first, rng, rng.uniform(0.0, 1.2))
        if rng.random() < 0.3:
            second = supercell(second, int(rng.integers(3)))
        expected = matcher.fit(to_structure(first), to_structure(second))
        assert fit(reduce_crystal(first), reduce_crystal(second)) == expected
        answers.append(expected)
    assert sum(answers) > 10
    assert n_atoms == 1 or sum(answers) < 60


def test_equals_the_matcher_on_other_structures_of_one_composition():
    rng = np.random.default_rng(0)
    numbers = [22] * 4 + [8] * 8
    crystals = [Crystal(np.diag([5.0, 6.0, 7.0]), rng.random((12, 3)), numbers) for _ in range(14)]
    matcher = StructureMatcher()
    reduced = reduce_crystals(crystals)
    asked = 0
    for i, first in enumerate(reduced):
        possible = dict(possible_fits(first, reduced))
        asked += len(possible)
        for j in range(len(reduced)):
            expected = matcher.fit(to_structure(crystals[i]), to_structure(crystals[j]))
            assert expected == (j in possible and possible[j]())
    assert 14 <= asked < 100  # of 196: the others are ruled out together


def test_mirror_images_fit_as_they_do_for_the_matcher():
    rng = np.random.default_rng(2)
    crystal = random_crystal(rng, 6)
    mirrored = Crystal(crystal.lattice * [1, 1, -1], crystal.frac_coords, crystal.numbers)
    expected = StructureMatcher().fit(to_structure(crystal), to_structure(mirrored))
    assert fit(reduce_crystal(crystal), reduce_crystal(mirrored)) == expected


def test_elements_that_are_equally_rare_are_anchored_as_the_matcher_does():
    """Sites in any order: which of the rarest elements comes first decides which translations are tried."""
    rng = np.random.default_rng(4)
    matcher = StructureMatcher()
    for _ in range(40):
        first = Crystal(np.eye(3) * 5 + rng.normal(0, 0.3, (3, 3)), rng.random((6, 3)), [3, 11, 8, 8, 9, 9])
        order = rng.permutation(6)
        second = disturbed(Crystal(first.lattice, first.frac_coords[order], first.numbers[order]), rng, 0.5)
        expected = matcher.fit(to_structure(first), to_structure(second))
        assert fit(reduce_crystal(first), reduce_crystal(second)) == expected


def test_symmetric_crystals_and_their_distortions():
    """Of the many mappings of a symmetric crystal one stands for those that are the same; distortions end that."""
    rng = np.random.default_rng(6)
    matcher = StructureMatcher()
    sites = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Crystal(np.eye(3) * 3.9, sites, [38, 22, 8, 8, 8])
    answers = []
    for size in np.linspace(0.0, 1.4, 40):
        moved = disturbed(perovskite, rng, size) if rng.random() < 0.5 else perovskite
        for _ in range(2):
            moved = supercell(moved, int(rng.integers(3))) if rng.random() < 0.3 else moved
        for first, second in ((perovskite, moved), (moved, disturbed(perovskite, rng, size))):
            expected = matcher.fit(to_structure(first), to_structure(second))
            assert fit(reduce_crystal(first), reduce_crystal(second)) == expected
            answers.append(expected)
    assert 0 < sum(answers) < len(answers)
