"""How new crystals as they come fill the padded batches of potentials over edges."""

import numpy as np
import pytest

from gnome_core.graphs.batches import split
from gnome_core.graphs.edges import edge_graph
from gnome_core.potentials.edge_potential import LADDER
from pipelines.evaluation.judging import labelled


@pytest.mark.parametrize("cutoff", [5.0, 6.0])  # Å, of NequIP as it is trained here and of Nequix
def test_little_of_a_batch_is_padding(cutoff):
    graphs = [edge_graph(crystal, cutoff) for crystal in labelled(None, None).crystals[:200]]
    top = LADDER[-1]
    filled = [np.sum([graphs[i].size[1] for i in run]) / top.blocks for run in split(graphs, top)]
    assert np.mean(filled) > 0.8
