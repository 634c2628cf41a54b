"""Bond graphs against a plain double loop over periodic images, and their packing."""

import itertools

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.bonds import BatchShape, bond_graph, pack
from tests.gnome_core.potentials.samples import COPPER, LONELY, ROCKSALT, SKEWED

SHAPE = BatchShape(graphs=5, atoms=16, short=128, long=768, angles=768)


def neighbors(crystal: Crystal, cutoff: float, reach: int = 4) -> list[np.ndarray]:
    """Per atom, the vectors (k, 3) to every neighbour within the cutoff, the slow way."""
    images = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3))) @ crystal.lattice
    found = []
    for position in crystal.positions:
        vectors = (crystal.positions[:, None] + images - position).reshape(-1, 3)
        length = np.linalg.norm(vectors, axis=1)
        found.append(vectors[(length > 1e-9) & (length < cutoff)])
    return found


@pytest.mark.parametrize("crystal", [COPPER, ROCKSALT, SKEWED, LONELY])
def test_bonds_and_angles_are_all_there_is(crystal):
    graph = bond_graph(crystal)
    length = np.linalg.norm(graph.vectors, axis=1)
    assert (length[: graph.n_short] < 3.0).all()
    assert (length[graph.n_short :] >= 3.0).all()
    # A bond is seen from both its ends; each atom must see exactly its neighbours.
    ends = np.concatenate([graph.first, graph.second])
    seen = np.concatenate([graph.vectors, -graph.vectors])
    for atom, expected in enumerate(neighbors(crystal, 6.0)):
        np.testing.assert_allclose(ordered(seen[ends == atom]), ordered(expected), atol=1e-9)
    unit = graph.vectors / length[:, None]
    cosine = graph.sign * (unit[graph.bond1] * unit[graph.bond2]).sum(-1)
    for atom, vectors in enumerate(neighbors(crystal, 3.0)):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        expected = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
        np.testing.assert_allclose(np.sort(cosine[graph.center == atom]), np.sort(expected), atol=1e-6)


def ordered(vectors: np.ndarray) -> np.ndarray:
    return vectors[np.lexsort(vectors.round(6).T)]


def test_a_bond_to_the_own_image_meets_itself():
    graph = bond_graph(COPPER)
    assert graph.n_short == 6  # twelve nearest neighbours
    assert list(graph.size) == [1, 6, len(graph.first) - 6, 66]  # 12 * 11 / 2
    own = graph.bond1 == graph.bond2
    assert own.sum() == 6
    assert (graph.sign[own] == -1).all()  # straight through the atom


def test_an_isolated_atom_has_no_bond():
    assert list(bond_graph(LONELY).size) == [1, 0, 0, 0]


def test_packing_keeps_every_graph_and_leaves_the_padding_apart():
    graphs = [bond_graph(c) for c in (SKEWED, LONELY, COPPER, ROCKSALT)]
    batch = pack(graphs, SHAPE, far=12.0)
    atom, short, long, angle = 0, 0, SHAPE.short, 0
    for index, graph in enumerate(graphs):
        n, n_short, n_long, n_angles = graph.size
        assert (batch.graph[atom : atom + n] == index).all()
        assert (batch.species[atom : atom + n] + 1 == graph.numbers).all()
        bonds = np.r_[short : short + n_short, long : long + n_long]
        np.testing.assert_array_equal(batch.first[bonds], graph.first + atom)
        np.testing.assert_array_equal(batch.second[bonds], graph.second + atom)
        np.testing.assert_array_equal(batch.vectors[bonds], graph.vectors.astype(np.float32))
        np.testing.assert_array_equal(batch.bond1[angle : angle + n_angles], graph.bond1 + short)
        np.testing.assert_array_equal(batch.center[angle : angle + n_angles], graph.center + atom)
        atom, short, long, angle = atom + n, short + n_short, long + n_long, angle + n_angles
    padding = np.r_[short : SHAPE.short, long : SHAPE.short + SHAPE.long]
    assert len(padding) > 2
    assert (batch.graph[atom:] == SHAPE.graphs - 1).all()
    assert (batch.first[padding] == SHAPE.atoms - 1).all()
    assert (np.linalg.norm(batch.vectors[padding], axis=1) == 12.0).all()
    assert (batch.bond1[angle:] == SHAPE.short - 1).all()
    assert (batch.sign[angle:] == 0).all()
    assert list(batch.n_atoms) == [5, 1, 1, 2, 1]


def test_a_shape_keeps_one_of_everything_for_padding():
    shape = BatchShape(graphs=3, atoms=4, short=5, long=6, angles=7)
    assert shape.holds(2, np.array([3, 4, 5, 6]))
    assert not shape.holds(3, np.array([3, 4, 5, 6]))
    for full in np.eye(4, dtype=int):
        assert not shape.holds(2, np.array([3, 4, 5, 6]) + full)
        assert shape.doubled().holds(2, np.array([3, 4, 5, 6]) + full)
