"""Blocked edges against the plain neighbour list."""

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.batches import OPEN, split
from gnome_core.graphs.edges import BLOCK, EdgeShape, edge_graph, pack
from gnome_core.graphs.neighbors import neighbor_list
from tests.gnome_core.potentials.samples import COPPER, LONELY, ROCKSALT, SKEWED


@pytest.mark.parametrize("crystal", [COPPER, ROCKSALT, SKEWED, LONELY], ids=["cu", "nacl", "skewed", "lonely"])
def test_blocks_hold_every_edge_once(crystal: Crystal):
    graph = edge_graph(crystal, 5.0)
    plain = neighbor_list(crystal, 5.0)
    real = np.linalg.norm(graph.vectors, axis=-1) < 5.0
    receivers = np.repeat(graph.receivers[:, None], BLOCK, 1)
    vectors = (
        crystal.frac_coords[plain.receivers] + plain.images - crystal.frac_coords[plain.senders]
    ) @ crystal.lattice
    ours = sorted(zip(graph.senders[real], receivers[real], *graph.vectors[real].round(9).T, strict=True))
    expected = sorted(zip(plain.senders, plain.receivers, *vectors.round(9).T, strict=True))
    assert len(ours) == len(plain.senders)
    np.testing.assert_allclose(ours, expected)
    assert (np.diff(graph.receivers) >= 0).all()
    assert (graph.senders[~real] == receivers[~real]).all()


def test_packing_keeps_graphs_apart_and_pads_with_the_last_atom_and_graph():
    graphs = [edge_graph(c, 4.0) for c in (SKEWED, LONELY, ROCKSALT)]
    n_blocks = sum(g.size[1] for g in graphs)
    batch = pack(graphs, EdgeShape(5, 12, n_blocks + 3))
    assert batch.numbers.tolist() == [*SKEWED.numbers, 18, 11, 17, 1, 1, 1, 1]
    assert batch.graph.tolist() == [0] * 5 + [1] + [2] * 2 + [4] * 4
    assert batch.n_atoms.tolist() == [5, 1, 2, 1, 1]
    assert (batch.graph[batch.senders] == batch.graph[batch.receivers][:, None]).all()
    assert (batch.receivers[n_blocks:] == 11).all()


def test_splitting_fills_shapes_and_gives_the_large_a_run_of_their_own():
    graphs = [edge_graph(c, 5.0) for c in (COPPER, SKEWED, ROCKSALT, SKEWED, COPPER)]
    shape = EdgeShape(4, 6, 60)
    runs = list(split(graphs, shape))
    assert sorted(i for run in runs for i in run) == list(range(5))
    assert runs[0] == [0, 2, 4], "what comes later joins a run that has room"
    for run in runs:
        size = np.sum([graphs[i].size for i in run], axis=0)
        assert shape.holds(len(run), size) or len(run) == 1
    assert list(split([], shape)) == []
    many = [edge_graph(SKEWED, 5.0)] * (OPEN + 3)
    assert list(split(many, EdgeShape(2, 30, 200))) == [[i] for i in range(OPEN + 3)]
