"""The compositional energy model of GNoME: a graph network whose nodes are the elements of a composition.

Merchant et al., Nature 624, 80 (2023), Methods: one-hot nodes multiplied by their ratio, edges between all pairs of
nodes, the energy of the composition's best structure out. (The released code passes no messages for want of positions;
this follows the paper.) By default Gaussians of the ratio are added in place of the product.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from gnome_core.graphs.batching import GraphBatch
from gnome_core.models.config import CompositionalConfig
from gnome_core.models.graph_network import ElementEmbedding, energy_of_graphs
from gnome_core.models.layers import linear, rows
from gnome_core.models.radial import gaussians


class CompositionalGNN(nn.Module):
    """GraphBatch of compositions -> (n_graphs,) formation energy, eV/atom (meaningless on padding)."""

    config: CompositionalConfig
    precision: str = "float32"

    @nn.compact
    def __call__(self, graph: GraphBatch) -> jax.Array:
        config = self.config
        fraction = graph.nodes.multiplicities / rows(graph.globals, graph.nodes.graphs)
        nodes = ElementEmbedding(config.width, config.element_properties, name="embedding")(graph.nodes.numbers)
        if config.ratio == "weight":
            nodes *= fraction[:, None]
        else:
            centres = jnp.linspace(0.0, 1.0, config.n_basis)
            nodes += linear(config.width, name="ratio")(gaussians(fraction, centres, 1.0 / config.n_basis))
        return energy_of_graphs(self, graph, None, nodes)
