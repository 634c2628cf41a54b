import moyopy
import numpy as np
import pytest

from gnome_core.generation.space_groups import N_GROUPS, operations, orbits, symmetric_lattice, tensor_averaging

# International Tables A: multiplicities in the conventional cell, over the lattice points of the centring.
WYCKOFF = {
    1: [1],
    2: [2, *[1] * 8],
    14: [4, *[2] * 4],
    62: [8, 4, 4, 4],
    194: [24, 12, 12, 12, 6, 6, 4, 4, 2, 2, 2, 2],
    225: [48, 24, 24, 12, 12, 12, 8, 6, 6, 2, 1, 1],
    227: [48, 24, 24, 12, 8, 4, 4, 2, 2],
    230: [48, 24, 24, 16, 12, 12, 8, 8],
}


@pytest.mark.parametrize("number", WYCKOFF)
def test_wyckoff_positions_are_those_of_the_tables(number):
    assert sorted((orbit.multiplicity for orbit in orbits(number)), reverse=True) == WYCKOFF[number]
    assert orbits(number)[0].freedom == 3


def test_all_groups_together_have_1731_positions_each_a_closed_orbit():
    somewhere = np.array([0.1371, 0.2913, 0.4177])
    total = 0
    for number in range(1, N_GROUPS + 1):
        rotations, translations = operations(number)
        total += len(orbits(number))
        for orbit in orbits(number):
            points = orbit.rotations @ somewhere + orbit.translations
            images = (rotations @ points.T).swapaxes(1, 2) + translations[:, None]
            gap = images.reshape(-1, 1, 3) - points
            gap = np.abs(gap - np.round(gap)).max(axis=2)
            assert (gap.min(axis=1) < 1e-6).all(), (number, orbit.multiplicity)
            # Distinct points, and as many images of each as its site symmetry has operations.
            assert ((gap < 1e-6).sum(axis=0) == len(rotations) // orbit.multiplicity * orbit.multiplicity).all()
    assert total == 1731


@pytest.mark.parametrize("number", [5, 47, 146, 166, 194, 216, 229])
def test_atoms_on_general_positions_of_a_symmetric_lattice_have_the_group(number):
    rng = np.random.default_rng(number)
    lattice = symmetric_lattice(number, np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))) * 12
    orbit = orbits(number)[0]
    # Two different elements, so that no accident of one orbit adds symmetry.
    points = np.concatenate([orbit.rotations @ y + orbit.translations for y in rng.random((2, 3))])
    numbers = np.repeat([3, 8], orbit.multiplicity)
    data = moyopy.MoyoDataset(moyopy.Cell(lattice.tolist(), points.tolist(), numbers.tolist()), symprec=1e-4)
    assert data.number == number
    assert len(data.operations) == len(operations(number)[0])


def test_averaged_tensors_are_symmetric():
    rng = np.random.default_rng(0)
    rotations, _ = operations(166)
    tensor = (tensor_averaging(166) @ rng.random(9)).reshape(3, 3)
    assert np.allclose(rotations @ tensor @ rotations.swapaxes(1, 2), tensor)
