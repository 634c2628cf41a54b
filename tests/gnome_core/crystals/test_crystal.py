import itertools

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal, crystal_digest, shortest_distance

CUBE = np.eye(3) * 4.0
CSCL = Crystal(CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], [55, 17])


def distance_over_all_images(crystal: Crystal) -> float:
    images = itertools.product(range(-5, 6), repeat=3)
    delta = crystal.frac_coords[None] - crystal.frac_coords[:, None]
    best = np.inf
    for image in images:
        distance = np.linalg.norm((delta + image) @ crystal.lattice, axis=-1)
        if not any(image):
            np.fill_diagonal(distance, np.inf)
        best = min(best, distance.min())
    return best


def test_shortest_distance_is_exact_for_skewed_cells():
    rng = np.random.default_rng(1)
    below = 0
    for _ in range(60):
        lattice = rng.normal(size=(3, 3)) * 2
        lattice[2] += rng.integers(-2, 3) * lattice[0]
        heights = abs(np.linalg.det(lattice)) * np.linalg.norm(np.linalg.inv(lattice), axis=0) ** -1
        if heights.min() < 0.8:
            continue
        crystal = Crystal(lattice, rng.random((3, 3)), [1, 2, 3])
        expected = distance_over_all_images(crystal)
        found = shortest_distance(crystal, 1.5)
        assert found == pytest.approx(expected if expected < 1.5 else np.inf)
        below += expected < 1.5
    assert below > 8


def test_two_hundred_atoms_stay_small_in_memory():
    import tracemalloc

    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), -1).reshape(-1, 3)[:200] / 6
    crystal = Crystal(np.eye(3) * 18, grid, [29] * 200)
    tracemalloc.start()
    check_crystal(crystal)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("crystal", "reason"),
    [
        (Crystal(CUBE, np.empty((0, 3)), []), "no_sites"),
        (Crystal(CUBE, [[0, 0, np.nan]], [3]), "not_finite"),
        (Crystal(np.full((3, 3), np.inf), [[0, 0, 0]], [3]), "not_finite"),
        (Crystal(np.zeros((3, 3)), [[0, 0, 0]], [3]), "bad_lattice"),
        (Crystal([[4, 0, 0], [0, 4, 0], [4, 4, 0.001]], [[0, 0, 0]], [3]), "bad_lattice"),
        (Crystal(CUBE, [[0, 0, 0]], [0]), "unknown_element"),
        (Crystal(CUBE, [[0, 0, 0]], [95]), "unknown_element"),
        (Crystal(CUBE, [[0, 0, 0.01], [0, 0, 0.99]], [3, 3]), "overlapping_atoms"),
        (Crystal(CUBE, [[0, 0, 0], [1, 1, 1]], [3, 3]), "overlapping_atoms"),
        (Crystal(np.diag([0.3, 9, 9]), [[0, 0, 0]], [3]), "overlapping_atoms"),
        (Crystal(CUBE, [[0, 0, 0]], [3, 3]), "length_mismatch"),
        (Crystal(CUBE * 100, np.random.default_rng(0).random((1001, 3)), [3] * 1001), "too_many_sites"),
    ],
)
def test_broken_crystals_are_named(crystal, reason):
    with pytest.raises(InvalidCrystal) as error:
        check_crystal(crystal)
    assert error.value.reason == reason


def test_numbers_beyond_a_byte_are_refused_not_wrapped():
    with pytest.raises(InvalidCrystal, match="atomic numbers"):
        Crystal(CUBE, [[0, 0, 0]], np.array([350]))


def test_digest_ignores_cell_shifts_and_noise_but_not_chemistry():
    shifted = Crystal(CUBE + 1e-9, [[1, -2, 1e-9], [-0.5, 0.5, 1.5]], [55, 17])
    assert crystal_digest(shifted) == crystal_digest(CSCL)
    assert crystal_digest(Crystal(CUBE, CSCL.frac_coords, [55, 35])) != crystal_digest(CSCL)
    assert len(crystal_digest(CSCL)) == 32


def test_scaling_keeps_shape_and_sets_volume():
    scaled = CSCL.scaled_to_volume(100.0)
    assert scaled.volume == pytest.approx(100.0)
    np.testing.assert_allclose(
        scaled.positions / CSCL.positions.max(), CSCL.positions / CSCL.positions.max() * (100 / 64) ** (1 / 3)
    )
