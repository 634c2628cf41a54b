import itertools

import jraph
import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.batching import LADDER, Bucket, GraphTooLarge, batches, pack
from gnome_core.graphs.featurize import structural_graphs


def random_crystals(n: int, seed: int = 0, n_atoms: int = 6) -> list[Crystal]:
    rng = np.random.default_rng(seed)
    return [
        Crystal(
            np.eye(3) * (15.0 * n_atoms) ** (1 / 3) + rng.normal(size=(3, 3)) * 0.3,
            rng.random((n_atoms, 3)),
            rng.integers(1, 95, n_atoms),
        )
        for _ in range(n)
    ]


def test_packing_is_greedy_in_order_and_within_the_bucket():
    rng = np.random.default_rng(0)
    nodes, edges = rng.integers(1, 9, 200), rng.integers(0, 90, 200)
    bucket = Bucket(40, 400, 10)
    runs = pack(nodes, edges, bucket)
    assert runs[0][0] == 0
    assert runs[-1][1] == 200
    assert all(a[1] == b[0] for a, b in itertools.pairwise(runs))
    for start, stop in runs:
        assert nodes[start:stop].sum() < bucket.n_nodes
        assert edges[start:stop].sum() <= bucket.n_edges
        assert stop - start < bucket.n_graphs
        full = stop == 200 or (
            nodes[start : stop + 1].sum() >= bucket.n_nodes
            or edges[start : stop + 1].sum() > bucket.n_edges
            or stop + 1 - start >= bucket.n_graphs
        )
        assert full, "a run was cut before it was full"


def test_batches_hold_every_item_once_with_its_own_edges():
    table = structural_graphs(random_crystals(30))
    graphs = np.repeat(np.arange(30), 3)
    factors = np.tile([0.8, 1.0, 1.2], 30)
    seen = 0
    for items, batch in batches(table, graphs, factors):
        assert items.start == seen
        seen = items.stop
        assert (np.diff(batch.receivers) >= 0).all()
        assert (batch.edges.lengths[batch.edges.weights > 0] < 4.0).all()
        for place, item in enumerate(range(items.start, items.stop)):
            own = (batch.nodes.graphs[batch.receivers] == place) & (batch.edges.weights > 0)
            graph = graphs[item]
            lengths = table.lengths[table.edge_offsets[graph] : table.edge_offsets[graph + 1]]
            lengths = lengths * np.cbrt(factors[item])
            np.testing.assert_allclose(batch.edges.lengths[own], lengths[lengths < 4.0], rtol=1e-6)
            assert (batch.nodes.graphs[batch.senders[own]] == place).all()
    assert seen == 90


def test_a_batch_is_what_jraph_would_make_of_the_same_graphs():
    """Its masks, and its graphs without their padding; what a model reads on padding (weights, counts) is empty."""
    table = structural_graphs(random_crystals(12))
    ((_, batch),) = batches(table, np.arange(12), np.ones(12))
    assert isinstance(batch, jraph.GraphsTuple)
    own = jraph.unpad_with_graphs(batch)
    again = jraph.pad_with_graphs(own, len(batch.nodes.numbers), len(batch.senders), len(batch.n_node))
    for name in ("n_node", "n_edge"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name))
    assert own.n_node.tolist() == table.n_nodes.tolist()
    assert own.globals.tolist() == table.n_atoms.tolist()
    np.testing.assert_array_equal(own.nodes.numbers, table.numbers)
    np.testing.assert_array_equal(own.nodes.graphs, np.repeat(np.arange(12), table.n_nodes))
    np.testing.assert_array_equal(jraph.get_edge_padding_mask(batch), batch.edges.weights > 0)
    np.testing.assert_array_equal(jraph.get_node_padding_mask(batch), batch.nodes.multiplicities > 0)
    np.testing.assert_array_equal(batch.nodes.graphs, np.repeat(np.arange(len(batch.n_node)), batch.n_node))


def test_ladder_is_short_and_grows():
    assert len(LADDER) <= 8
    assert sorted(LADDER) == list(LADDER)


def test_a_graph_beyond_the_ladder_is_an_error_with_its_index():
    table = structural_graphs(random_crystals(3))
    with pytest.raises(GraphTooLarge) as caught:
        list(batches(table, np.arange(3), np.ones(3), ladder=(Bucket(4, 8, 2),), packing=Bucket(4, 8, 2)))
    assert caught.value.index == 0
