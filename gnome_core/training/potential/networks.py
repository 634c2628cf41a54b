"""The networks that a potential's training can optimise: what is different between them, for everything else is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs import bonds, edges
from gnome_core.models import chgnet
from gnome_core.models.config import CHGNetConfig, NequIPConfig
from gnome_core.models.nequip import NequIP
from gnome_core.potentials.by_name import CHGNET
from gnome_core.potentials.files import load_potential
from gnome_core.potentials.gradients import Prediction, predict

Graph = TypeVar("Graph", edges.EdgeGraph, bonds.BondGraph)


class Network(Protocol):
    """A network with a configuration, hashable: steps are compiled for it. Batches have `graph` and `n_atoms`."""

    @property
    def config(self) -> NequIPConfig | CHGNetConfig: ...

    def graph(self, crystal: Crystal) -> Any:
        """With vectors in single precision."""
        ...

    def shape(self, n_graphs: int, size: np.ndarray) -> Any:
        """A padded shape for so many graphs of this size together."""
        ...

    def fitting(self, graphs: Sequence[Any], shape: Any) -> Any:
        """That shape, or a larger one if the graphs need it."""
        ...

    def pack(self, graphs: Sequence[Any], shape: Any, levels: Sequence[int]) -> Any: ...

    def predict(self, variables: dict, batch: Any) -> Prediction:
        """What the network says about every graph of the batch, less the shifts of the elements; differentiable."""
        ...


@dataclass(frozen=True)
class NequIPNetwork:
    config: NequIPConfig
    precision: str = "float32"

    @property
    def module(self) -> NequIP:
        return NequIP(self.config, self.precision)

    def graph(self, crystal: Crystal) -> edges.EdgeGraph:
        return _single(edges.edge_graph(crystal, self.config.cutoff))

    def shape(self, n_graphs: int, size: np.ndarray) -> edges.EdgeShape:
        atoms, blocks = size
        return edges.EdgeShape(n_graphs + 1, 1 + _multiple(atoms, 8), _multiple(blocks, 16))

    def fitting(self, graphs: Sequence[edges.EdgeGraph], shape: edges.EdgeShape) -> edges.EdgeShape:
        return edges.fitting_shape(graphs, [shape])

    def pack(self, graphs: Sequence[edges.EdgeGraph], shape: edges.EdgeShape, levels: Sequence[int]) -> edges.EdgeBatch:
        return edges.pack(graphs, shape, levels=levels)

    def predict(self, variables: dict, batch: edges.EdgeBatch) -> Prediction:
        return predict(self.module, variables, batch)


@dataclass(frozen=True)
class CHGNetNetwork:
    """Variables are its weights by their published names; those of elements are zero, as shifts stand in for them."""

    config: CHGNetConfig

    def graph(self, crystal: Crystal) -> bonds.BondGraph:
        return _single(bonds.bond_graph(crystal, chgnet.ATOM_CUTOFF, chgnet.BOND_CUTOFF))

    def shape(self, n_graphs: int, size: np.ndarray) -> bonds.BatchShape:
        atoms, *rest = size
        return bonds.BatchShape(n_graphs + 1, 1 + _multiple(atoms, 8), *(1 + _multiple(n, 64) for n in rest))

    def fitting(self, graphs: Sequence[bonds.BondGraph], shape: bonds.BatchShape) -> bonds.BatchShape:
        return bonds.fitting_shape(graphs, [shape])

    def pack(
        self, graphs: Sequence[bonds.BondGraph], shape: bonds.BatchShape, levels: Sequence[int]
    ) -> bonds.BondBatch:
        return bonds.pack(graphs, shape, chgnet.FAR)

    def predict(self, variables: dict, batch: bonds.BondBatch) -> Prediction:
        return Prediction(*chgnet.predict(chgnet.params_of(variables["params"]), batch)[:3])


def _single(graph: Graph) -> Graph:
    """With vectors in single precision, to keep many."""
    return replace(graph, vectors=graph.vectors.astype(np.float32))


def _multiple(n: float, of: int) -> int:
    return of * -(-int(np.ceil(n)) // of)


def network_of(config: NequIPConfig | CHGNetConfig, precision: str = "float32") -> NequIPNetwork | CHGNetNetwork:
    """precision: of the products of features with weights. Raises ValueError where a CHGNet is asked for another."""
    if isinstance(config, NequIPConfig):
        return NequIPNetwork(config, precision)
    if precision != "float32":
        raise ValueError(f'training.precision = "{precision}" is for NequIP; a CHGNet is trained in float32')
    return CHGNetNetwork(config)


class Start(NamedTuple):
    """A potential to fine-tune. shifts: eV by atomic number, on its scale."""

    variables: dict
    config: NequIPConfig | CHGNetConfig
    scale: str
    shifts: Mapping[int, float]


def starting_point(name: str) -> Start:
    """Of chgnet, chgnet-r2scan or FILE.npz. Raises BadPotential."""
    if name not in CHGNET:
        variables, record = load_potential(name)
        return Start(variables, record.config, record.scale, record.shifts)
    version = CHGNET[name]
    weights = chgnet.load_weights(version)
    composition = weights["composition_model.fc.weight"]
    elements = tuple(np.flatnonzero(chgnet.TRAINED[version]).tolist())
    shifts = {z: float(composition[0, z - 1]) for z in elements}
    weights["composition_model.fc.weight"] = np.zeros_like(composition)
    config = CHGNetConfig(architecture="chgnet", elements=elements)
    return Start({"params": weights}, config, f"chgnet-{version}", shifts)


@partial(jax.jit, static_argnums=0)
def predict_compiled(network: Network, variables: dict, batch: Any) -> Prediction:
    """`network.predict`, compiled once a network and batch shape."""
    return network.predict(variables, batch)
