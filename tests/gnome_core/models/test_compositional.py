"""What the compositional model must keep: order and scale of a formula, padding, and messages between all pairs."""

import jax
import numpy as np
import pytest

from gnome_core.graphs.batching import LADDER, Bucket, batches
from gnome_core.graphs.featurize import BadCrystal, compositional_graphs
from gnome_core.models.compositional import CompositionalGNN
from gnome_core.models.config import CompositionalConfig

NETWORK = CompositionalGNN(CompositionalConfig(width=16))
FORMULAS = ({3: 15, 14: 4}, {26: 1}, {11: 1, 17: 1}, {3: 1, 26: 1, 15: 1, 8: 4}, {1: 3, 7: 1, 35: 2, 50: 1, 8: 9})


def table(*formulas: dict[int, int]) -> np.ndarray:
    compositions = np.zeros((len(formulas), 95), int)
    for row, formula in zip(compositions, formulas, strict=True):
        for number, count in formula.items():
            row[number] = count
    return compositions


@pytest.fixture(scope="module")
def energies():
    _, one = next(batches(compositional_graphs(table(FORMULAS[0])), np.zeros(1, int), np.ones(1)))
    variables = jax.jit(NETWORK.init)(jax.random.key(0), one)
    apply = jax.jit(NETWORK.apply)

    def energies(compositions, ladder=LADDER, spoil=None):
        graphs = compositional_graphs(compositions)
        out = np.empty(len(compositions))
        for items, batch in batches(graphs, np.arange(len(out)), np.ones(len(out)), ladder=ladder, packing=ladder[-1]):
            batch = batch if spoil is None else spoil(batch)
            out[items] = np.asarray(apply(variables, batch))[: items.stop - items.start]
        return out

    return energies


def test_a_multiple_of_a_formula_has_its_energy(energies):
    compositions = table(*FORMULAS)
    np.testing.assert_allclose(energies(3 * compositions), energies(compositions), atol=1e-6)


def test_batch_mates_and_padding_change_nothing(energies):
    compositions = table(*FORMULAS)
    together = energies(compositions)
    np.testing.assert_allclose(np.concatenate([energies(row[None]) for row in compositions]), together, atol=1e-6)
    np.testing.assert_allclose(energies(compositions[::-1])[::-1], together, atol=1e-6)
    np.testing.assert_allclose(energies(compositions, (Bucket(3_000, 20_000, 900),)), together, atol=1e-6)


def test_edges_join_all_pairs_of_elements(energies):
    graphs = compositional_graphs(table(*FORMULAS))
    assert np.diff(graphs.edge_offsets).tolist() == [len(formula) ** 2 for formula in FORMULAS]
    received = np.bincount(graphs.receivers[: graphs.edge_offsets[1]], graphs.counts[: graphs.edge_offsets[1]])
    np.testing.assert_allclose(received, 1)  # a mean over the atoms
    # The released code of GNoME has no messages; ours matter.
    silent = energies(
        table(*FORMULAS),
        spoil=lambda batch: batch._replace(edges=batch.edges._replace(weights=0 * batch.edges.weights)),
    )
    assert np.abs(silent - energies(table(*FORMULAS))).min() > 1e-4


def test_nodes_of_the_paper_are_vectors_times_their_ratio():
    """Without messages a composition's energy is one update of the mean of its nodes: that of its ratios alone."""
    network = CompositionalGNN(CompositionalConfig(width=8, ratio="weight", element_properties=False))
    formulas = table({3: 1, 8: 1}, {3: 2, 8: 1}, {3: 4, 8: 2})
    batch = next(batches(compositional_graphs(formulas), np.arange(3), np.ones(3)))[1]
    variables = jax.jit(network.init)(jax.random.key(1), batch)
    assert "ratio" not in variables["params"]
    energies = np.asarray(network.apply(variables, batch))[:3]
    assert energies[1] == pytest.approx(energies[2], abs=1e-6)
    assert abs(energies[0] - energies[1]) > 1e-4
    # One vector twice as long and the ratio half as large are the same node.
    vectors = variables["params"]["embedding"]["elements"]
    one = next(batches(compositional_graphs(table({3: 1})), np.zeros(1, int), np.ones(1)))[1]
    doubled = {**variables, "params": {**variables["params"], "embedding": {"elements": vectors.at[8].set(vectors[3])}}}
    halves = np.asarray(network.apply(doubled, next(batches(compositional_graphs(table({3: 1, 8: 1})), np.zeros(1, int),
                                                            np.ones(1)))[1]))  # fmt: skip
    short = {**variables, "params": {**variables["params"], "embedding": {"elements": vectors.at[3].multiply(0.5)}}}
    np.testing.assert_allclose(halves[0], np.asarray(network.apply(short, one))[0], atol=1e-5)


def test_ratios_matter(energies):
    assert abs(np.diff(energies(table({3: 1, 8: 1}, {3: 2, 8: 1})))[0]) > 1e-4


@pytest.mark.parametrize("bad", [{}, {8: -1}, {0: 2}])
def test_what_is_no_composition_is_named(bad):
    with pytest.raises(BadCrystal) as caught:
        compositional_graphs(table(FORMULAS[0], bad))
    assert caught.value.index == 1
    with pytest.raises(BadCrystal):
        compositional_graphs(0.5 * table(FORMULAS[2]))
