import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.featurize import BadCrystal, structural_graphs

ROCKSALT = Crystal(np.array([[0.0, 2.1, 2.1], [2.1, 0.0, 2.1], [2.1, 2.1, 0.0]]), [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])


def conventional(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    shifts = np.stack(np.meshgrid(*[np.arange(r) for r in repeats], indexing="ij"), -1).reshape(-1, 3)
    frac = (crystal.frac_coords[None] + shifts[:, None]) / np.array(repeats)
    return Crystal(
        crystal.lattice * np.array(repeats)[:, None], frac.reshape(-1, 3), np.tile(crystal.numbers, len(shifts))
    )


def test_rocksalt_is_two_nodes_and_its_shells():
    graph = structural_graphs([ROCKSALT], cutoff=3.2, min_volume_factor=1.0)
    assert graph.numbers.tolist() == [12, 8]
    # Each ion: 6 of the other kind at 2.10 Å, 12 of its own at 2.97 Å.
    assert sorted(zip(graph.receivers, graph.senders, graph.counts, strict=True)) == [
        (0, 0, 12),
        (0, 1, 6),
        (1, 0, 6),
        (1, 1, 12),
    ]
    assert graph.degrees(3.2)[0] == 18


def test_a_supercell_has_the_graph_of_its_cell():
    one, many = structural_graphs([ROCKSALT]), structural_graphs([conventional(ROCKSALT, (2, 2, 1))])
    assert many.n_atoms[0] == 8
    assert many.multiplicities.tolist() == [4, 4]
    np.testing.assert_array_equal(many.counts, one.counts)
    np.testing.assert_allclose(many.lengths, one.lengths, atol=1e-9)


def test_atoms_of_one_element_with_other_surroundings_stay_apart():
    # Two oxygens, one beside the metal and one far from it.
    crystal = Crystal(np.eye(3) * 8.0, [[0, 0, 0], [0.25, 0, 0], [0.65, 0.5, 0.5], [0.9, 0.5, 0.5]], [12, 8, 8, 8])
    graph = structural_graphs([crystal])
    assert len(graph.numbers) == 3
    assert sorted(graph.multiplicities) == [1, 1, 2]


def test_no_edges_and_one_atom_are_legal():
    lonely = Crystal(np.eye(3) * 9.0, [[0, 0, 0]], [2])
    graph = structural_graphs([lonely, ROCKSALT, lonely])
    assert graph.n_nodes.tolist() == [1, 2, 1]
    assert np.diff(graph.edge_offsets)[[0, 2]].tolist() == [0, 0]
    assert structural_graphs([]).n_graphs == 0


@pytest.mark.parametrize(
    "bad",
    [
        Crystal(np.eye(3) * np.nan, [[0, 0, 0]], [1]),
        Crystal(np.eye(3) * 5, np.zeros((0, 3)), []),
        Crystal(np.eye(3) * 5, [[0, 0, 0]], [95]),
        Crystal(np.diag([5.0, 5.0, 0.0]), [[0, 0, 0]], [1]),
    ],
)
def test_bad_crystals_are_named_by_index(bad):
    with pytest.raises(BadCrystal) as caught:
        structural_graphs([ROCKSALT, bad])
    assert caught.value.index == 1
