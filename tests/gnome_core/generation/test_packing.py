from dataclasses import replace

import numpy as np
import pytest

from gnome_core.generation.packing import MAX_ATOMS, LooseCell, pack
from gnome_core.generation.space_groups import orbits, symmetric_lattice, tensor_averaging


def triclinic(n: int, edge: float, separation: float, seed: int) -> LooseCell:
    """n atoms anywhere in a cube without symmetry."""
    free = np.random.default_rng(seed).random((n, 3))
    ones = np.tile(np.eye(3), (n, 1, 1))
    return LooseCell(
        np.eye(3) * edge, ones, np.zeros((n, 3)), np.arange(n), free, np.full((n, n), separation), np.eye(9)
    )


def shortest(cell: LooseCell) -> float:
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice(cell.lattice), ["H"] * cell.n_atoms, cell.frac_coords())
    return float(structure.get_neighbor_list(6.0)[3].min())


@pytest.mark.parametrize("n", [1, 5, 10, 20, 40])
def test_overlaps_are_removed_at_constant_volume(n):
    edge = (12.0 * n) ** (1 / 3)
    cells = [triclinic(n, edge, 2.0, seed) for seed in range(6)]
    packed = pack(len(cells), lambda i, attempt: cells[i], lambda i, cell: cell, attempts=1)
    assert sum(cell is not None for cell in packed) >= 5
    for before, after in zip(cells, packed, strict=True):
        if after is not None:
            assert shortest(after) >= 2.0
            assert np.linalg.det(after.lattice) == pytest.approx(np.linalg.det(before.lattice), rel=1e-5)
    if n > 1:
        assert min(map(shortest, cells)) < 2.0


def test_cells_of_all_sizes_together_are_packed_as_they_are_alone():
    cells = [triclinic(n, (12.0 * n) ** (1 / 3), 2.0, n) for n in (2, 5, 7, 12, 13, 25)]
    together = pack(len(cells), lambda i, attempt: cells[i], lambda i, cell: cell, attempts=1)
    for cell, packed in zip(cells, together, strict=True):
        (alone,) = pack(1, lambda i, attempt, cell=cell: cell, lambda i, cell: cell, attempts=1)
        assert packed is not None
        assert np.array_equal(packed.free, alone.free)
        assert np.array_equal(packed.lattice, alone.lattice)


def test_symmetry_is_kept():
    """A trigonal cell stays trigonal while its shape changes and its atoms stay on their positions."""
    number = 166
    chosen = [orbits(number)[0], *[orbit for orbit in orbits(number) if orbit.freedom == 1][:2]]
    orbit = np.repeat(np.arange(3), [o.multiplicity for o in chosen])
    lattice = symmetric_lattice(number, np.diag([1.0, 1.1, 1.4]))
    cell = LooseCell(
        lattice * (len(orbit) * 12 / np.linalg.det(lattice)) ** (1 / 3),
        np.concatenate([o.rotations for o in chosen]),
        np.concatenate([o.translations for o in chosen]),
        orbit,
        np.random.default_rng(3).random((3, 3)),
        np.full((3, len(orbit)), 2.0),
        tensor_averaging(number),
    )
    (packed,) = pack(1, lambda i, attempt: cell, lambda i, done: done, attempts=1)
    assert packed is not None
    assert np.abs(packed.lattice - cell.lattice).max() > 1e-3
    metric = packed.lattice @ packed.lattice.T
    averaged = symmetric_lattice(number, packed.lattice)
    assert averaged @ averaged.T == pytest.approx(metric, abs=1e-4)
    assert shortest(packed) >= 2.0


def test_what_cannot_be_packed_is_begun_again_a_few_times_and_given_up():
    starts = []

    def start(i, attempt):
        starts.append((i, attempt))
        full = triclinic(8, (12.0 * 8) ** (1 / 3), 2.0, 0)
        return replace(full, separations=full.separations * 3) if i == 1 else full

    refused = []
    answers = pack(3, start, lambda i, cell: refused.append(i) if i == 2 else "packed", attempts=3)
    assert answers == ["packed", None, None]
    assert sorted(starts) == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert refused == [2, 2, 2]


def test_too_many_atoms_are_refused():
    big = triclinic(MAX_ATOMS + 1, 30.0, 1.0, 0)
    with pytest.raises(ValueError, match="at most 64"):
        pack(1, lambda i, attempt: big, lambda i, cell: cell, attempts=1)
