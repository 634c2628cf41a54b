"""The structural energy model of GNoME: a graph network over elements and edge lengths, formation energy per atom out.

Merchant et al., Nature 624, 80 (2023), Methods: Gaussian edges within 4 Å, shallow swish MLPs as update functions,
messages divided by the average adjacency of the data set, energy as a linear projection of the global state.

The first layer of every update is split: W [e, s, r, g] = W_e e + (W_s s)[senders] + (W_r r + W_g g)[receivers], so
that only W_e runs on edges. The last, linear layer of an update is followed by linear maps alone and is merged with
them. Both leave the family of functions as it is and cut the work on edges fivefold.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from gnome_core.crystals.crystal import MAX_ATOMIC_NUMBER
from gnome_core.graphs.batching import GraphBatch
from gnome_core.models.config import StructuralConfig
from gnome_core.models.elements import element_properties
from gnome_core.models.layers import Swish, linear, per_atom_mean, rows, segment_sum
from gnome_core.models.radial import gaussian_basis


class StructuralGNN(nn.Module):
    """GraphBatch -> (n_graphs,) formation energy, eV/atom (meaningless on padding).

    The collection "statistics" holds what comes from the training set and is not trained: mean_adjacency
    (neighbours per atom), shift and scale (mean and standard deviation of the labels, eV/atom).
    """

    config: StructuralConfig

    @nn.compact
    def __call__(self, graph: GraphBatch) -> jax.Array:
        config = self.config
        mean_adjacency = self.variable("statistics", "mean_adjacency", lambda: jnp.ones(())).value
        shift = self.variable("statistics", "shift", lambda: jnp.zeros(())).value
        scale = self.variable("statistics", "scale", lambda: jnp.ones(())).value

        weights = (graph.weights / mean_adjacency)[:, None]
        edges = gaussian_basis(graph.lengths, config.n_basis, config.cutoff, config.basis_width)
        spread = 0.1 if config.element_properties else 1.0
        embedding = self.param("elements", nn.initializers.normal(spread), (MAX_ATOMIC_NUMBER + 1, config.width))
        if config.element_properties:
            embedding += linear(config.width, name="properties")(element_properties())
        nodes = rows(embedding, graph.numbers)
        state = jnp.zeros((graph.n_atoms.shape[0], config.width))
        for step in range(config.steps):
            edges, nodes, state = GraphNetworkStep(config, first=step == 0, name=f"step_{step}")(
                graph, weights, edges, nodes, state
            )
        energy = linear(1, use_bias=True, name="readout")(state)[:, 0]
        return energy * scale + shift


class GraphNetworkStep(nn.Module):
    """One update of edges, then nodes, then the global state (Battaglia et al., arXiv:1806.01261)."""

    config: StructuralConfig
    first: bool

    @nn.compact
    def __call__(
        self, graph: GraphBatch, weights: jax.Array, edges: jax.Array, nodes: jax.Array, state: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        width = self.config.width

        def swish(x: jax.Array, name: str) -> jax.Array:
            return Swish(self.config.trainable_swish, name=name)(x)

        def to_nodes(x: jax.Array) -> jax.Array:
            return rows(x, graph.node_graphs)

        # The global state joins on the nodes: the ends of an edge belong to one graph.
        sent = linear(width, name="edge_sender")(nodes)
        received = linear(width, use_bias=True, name="edge_receiver")(nodes)
        if not self.first:  # the state starts at zero
            received += to_nodes(linear(width, name="edge_state")(state))
        message = linear(width, name="edge_edge")(edges) + rows(sent, graph.senders) + rows(received, graph.receivers)
        message = swish(message, "edge_swish")
        gathered = segment_sum(message * weights, graph.receivers, nodes.shape[0])

        update = linear(width, use_bias=True, name="node_node")(nodes) + linear(width, name="node_edges")(gathered)
        if not self.first:
            update += to_nodes(linear(width, name="node_state")(state))
        update = swish(update, "node_swish")

        def mean(x: jax.Array) -> jax.Array:
            return per_atom_mean(x, graph.multiplicities, graph.node_graphs, graph.n_atoms)

        summary = linear(width, use_bias=True, name="state_nodes")(mean(update))
        summary += linear(width, name="state_edges")(mean(gathered))
        if not self.first:
            summary += linear(width, name="state_state")(state)
        summary = swish(summary, "state_swish")
        if self.config.residual:
            edges = message if self.first else edges + message
            return edges, nodes + update, state + summary
        return message, update, summary
