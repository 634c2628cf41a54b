"""What the structural and the compositional model share: nodes from elements, the update of a graph network, readout.

The first layer of every update is split: W [e, s, r, g] = W_e e + (W_s s)[senders] + (W_r r + W_g g)[receivers], so
that only W_e runs on edges. The last, linear layer of an update is followed by linear maps alone and is merged with
them. Both leave the family of functions as it is and cut the work on edges fivefold.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER
from gnome_core.graphs.batching import GraphBatch
from gnome_core.models.config import CompositionalConfig, StructuralConfig
from gnome_core.models.elements import element_properties
from gnome_core.models.layers import Array, Swish, per_atom_mean, rows, segment_sum
from gnome_core.models.layers import linear as dense


class ElementEmbedding(nn.Module):
    """One trained vector an element, to which its periodic-table properties may add: (n,) numbers -> (n, width)."""

    width: int
    properties: bool

    @nn.compact
    def __call__(self, numbers: Array) -> jax.Array:
        spread = 0.1 if self.properties else 1.0
        table = self.param("elements", nn.initializers.normal(spread), (MAX_ATOMIC_NUMBER + 1, self.width))
        if self.properties:
            table += dense(self.width, name="properties")(element_properties())
        return rows(table, numbers)


def energy_of_graphs(model: nn.Module, graph: GraphBatch, edges: jax.Array | None, nodes: jax.Array) -> jax.Array:
    """Message passing, then the energy as a projection of the global state: (n_graphs,) eV/atom.

    Called by a model's compact `__call__`; model.config shapes it, model.precision is that of its matrix products.
    edges: (E, features), None where edges have no features of their own; nodes: (N, width). The collection "statistics"
    holds what comes from the training set and is not trained: mean_adjacency (neighbours per atom), shift and scale
    (mean and standard deviation of the labels, eV/atom), unless the configuration fixes them.
    """
    config = model.config
    mean_adjacency = model.variable("statistics", "mean_adjacency", lambda: jnp.ones(())).value
    shift = model.variable("statistics", "shift", lambda: jnp.zeros(())).value
    scale = model.variable("statistics", "scale", lambda: jnp.ones(())).value
    weights = (graph.edges.weights / mean_adjacency)[:, None]
    state = jnp.zeros((graph.globals.shape[0], config.width))
    for step in range(config.steps):
        update = GraphNetworkStep(config, model.precision, first=step == 0, name=f"step_{step}")
        edges, nodes, state = update(graph, weights, edges, nodes, state)
    if config.readout == "mlp":
        hidden = dense(config.width, use_bias=True, name="readout_hidden", dtype="float32")(state)
        state = Swish(config.trainable_swish, name="readout_swish")(hidden)
    energy = dense(1, use_bias=True, name="readout", dtype="float32")(state)[:, 0]
    return energy * scale + shift


class GraphNetworkStep(nn.Module):
    """One update of edges, then nodes, then the global state (Battaglia et al., arXiv:1806.01261)."""

    config: StructuralConfig | CompositionalConfig
    precision: str
    first: bool

    @nn.compact
    def __call__(
        self, graph: GraphBatch, weights: jax.Array, edges: jax.Array | None, nodes: jax.Array, state: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        width = self.config.width
        linear = partial(dense, dtype=self.precision)

        def swish(x: jax.Array, name: str) -> jax.Array:
            return Swish(self.config.trainable_swish, name=name)(x)

        def to_nodes(x: jax.Array) -> jax.Array:
            return rows(x, graph.nodes.graphs)

        # The global state joins on the nodes: the ends of an edge belong to one graph.
        sent = linear(width, name="edge_sender")(nodes)
        received = linear(width, use_bias=True, name="edge_receiver")(nodes)
        if not self.first:  # the state starts at zero
            received += to_nodes(linear(width, name="edge_state")(state))
        message = rows(sent, graph.senders) + rows(received, graph.receivers)
        if edges is not None:
            message += linear(width, name="edge_edge")(edges)
        message = swish(message, "edge_swish")
        gathered = segment_sum(message * weights, graph.receivers, nodes.shape[0])

        update = linear(width, use_bias=True, name="node_node")(nodes) + linear(width, name="node_edges")(gathered)
        if not self.first:
            update += to_nodes(linear(width, name="node_state")(state))
        update = swish(update, "node_swish")

        def mean(x: jax.Array) -> jax.Array:
            return per_atom_mean(x, graph.nodes.multiplicities, graph.nodes.graphs, graph.globals)

        summary = linear(width, use_bias=True, name="state_nodes")(mean(update))
        summary += linear(width, name="state_edges")(mean(gathered))
        if not self.first:
            summary += linear(width, name="state_state")(state)
        summary = swish(summary, "state_swish")
        if self.config.residual:
            edges = message if self.first or edges is None else edges + message
            return edges, nodes + update, state + summary
        return message, update, summary
