"""The structural energy model of GNoME: a graph network over elements and edge lengths, formation energy per atom out.

Merchant et al., Nature 624, 80 (2023), Methods: Gaussian edges within 4 Å, shallow swish MLPs as update functions,
messages divided by the average adjacency of the data set, energy as a linear projection of the global state.
"""

from __future__ import annotations

import jax
from flax import linen as nn

from gnome_core.graphs.batching import GraphBatch
from gnome_core.models.config import StructuralConfig
from gnome_core.models.graph_network import ElementEmbedding, energy_of_graphs
from gnome_core.models.radial import gaussian_basis


class StructuralGNN(nn.Module):
    """GraphBatch of crystals -> (n_graphs,) formation energy, eV/atom (meaningless on padding)."""

    config: StructuralConfig
    precision: str = "float32"

    @nn.compact
    def __call__(self, graph: GraphBatch) -> jax.Array:
        config = self.config
        edges = gaussian_basis(graph.edges.lengths, config.n_basis, config.cutoff, config.basis_width)
        nodes = ElementEmbedding(config.width, config.element_properties, name="embedding")(graph.nodes.numbers)
        return energy_of_graphs(self, graph, edges, nodes)
