"""A deep ensemble with volume test-time augmentation: crystals or compositions in, median energy and spread out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.batching import LADDER, PACKING_BUCKET, GraphBatch, GraphTooLarge, batches
from gnome_core.graphs.featurize import (
    MIN_VOLUME_FACTOR,
    BadCrystal,
    GraphTable,
    compositional_graphs,
    structural_graphs,
)
from gnome_core.models.registry import BadMember, MemberRecord, apply_model, load_member

VOLUME_FACTORS = tuple(np.linspace(0.8, 1.2, 20))  # GNoME, Methods: 20 volumes from 80 % to 120 %
CHUNK = 1_000  # crystals whose graphs are held at once

OverVolumes = Literal["minimum", "median"]
Items = Sequence[Crystal] | np.ndarray
Featurizer = Callable[[Any], GraphTable]


@partial(jax.jit, static_argnums=(0, 1))
def _energies(network: nn.Module, over_members: str, stacked: dict, graph: GraphBatch) -> jax.Array:
    """(m, n_graphs) energies; one trace a batch shape, whatever the members."""
    if over_members == "vmap":
        return jax.vmap(lambda member: apply_model(network, member, graph))(stacked)
    return jax.lax.map(lambda member: apply_model(network, member, graph), stacked)


@dataclass(frozen=True, eq=False)
class EnsemblePrediction:
    """Formation energies, eV/atom, of n crystals by m members; each member's is one number over all volumes.

    median, iqr: (n,) over members. best_volume_factor: (n,) volume, over the given one, at which the median over
    members is lowest. member_energies: (n, m).
    """

    median: np.ndarray
    iqr: np.ndarray
    best_volume_factor: np.ndarray
    member_energies: np.ndarray


class EnsembleModel:
    """Members of one configuration, stacked. Predictions depend only on the given list and its order.

    elements: atomic numbers that every member saw in training; energies of others are guesses.
    """

    def __init__(
        self, variables: Sequence[dict], records: Sequence[MemberRecord], over_members: Literal["map", "vmap"] = "map"
    ):
        """over_members: "map" runs one member after the other (faster on CPUs), "vmap" all at once (accelerators)."""
        networks = [record.network() for record in records]
        if not networks or any(network != networks[0] for network in networks):
            raise BadMember(f"an ensemble needs members of one configuration, got {networks}")
        self._network, self._over_members = networks[0], over_members
        self.records = tuple(records)
        self.elements = frozenset.intersection(*(frozenset(record.elements) for record in records))
        self.cutoff = self._network.config.cutoff
        self._stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *variables)

    @classmethod
    def load(cls, paths: Sequence[str | Path], over_members: Literal["map", "vmap"] = "map") -> EnsembleModel:
        """Members from their .npz files (each with its .json beside it). Raises BadMember."""
        members = [load_member(path) for path in paths]
        return cls([variables for variables, _ in members], [record for _, record in members], over_members)

    @property
    def n_members(self) -> int:
        return len(self.records)

    def predict(
        self,
        crystals: Sequence[Crystal],
        volume_factors: Sequence[float] = VOLUME_FACTORS,
        over_volumes: OverVolumes = "minimum",
    ) -> EnsemblePrediction:
        """Median and spread of each formation energy. Raises BadCrystal with the index of the first bad one.

        over_volumes: a member's energy is its "minimum" over the volumes (GNoME), or their "median", which suits
        members trained with volume jitter: they give the relaxed energy at any volume; a minimum picks errors.
        """
        factors = np.asarray(volume_factors, np.float64)
        narrowest = min(MIN_VOLUME_FACTOR, factors.min())
        parts = [
            self._chunk(lambda part: structural_graphs(part, self.cutoff, narrowest), crystals, first, factors)
            for first in range(0, len(crystals), CHUNK)
        ]
        return self._summary(parts, factors, over_volumes)

    def predict_compositions(self, compositions: np.ndarray) -> EnsemblePrediction:
        """Median and spread of each formation energy of compositions (n, 95), by a compositional ensemble.

        Raises BadCrystal with the index of the first that is none.
        """
        factors = np.ones(1)
        parts = [
            self._chunk(compositional_graphs, compositions, first, factors)
            for first in range(0, len(compositions), CHUNK)
        ]
        return self._summary(parts, factors, "minimum")

    def _summary(
        self, parts: list[np.ndarray], volume_factors: np.ndarray, over_volumes: OverVolumes
    ) -> EnsemblePrediction:
        energies = np.concatenate([np.zeros((0, self.n_members, len(volume_factors))), *parts])
        member_energies = energies.min(axis=2) if over_volumes == "minimum" else np.median(energies, axis=2)
        low, median, high = np.percentile(member_energies, (25, 50, 75), axis=1)
        best = np.median(energies, axis=1).argmin(axis=1)
        return EnsemblePrediction(median, high - low, volume_factors[best], member_energies)

    def warm_up(self) -> None:
        """Compile every batch shape that packing can ask for, for a worker's set-up."""
        hydrogen = Crystal(np.eye(3) * 10.0, np.zeros((1, 3)), np.ones(1, np.uint8))
        table = structural_graphs([hydrogen], self.cutoff)
        for bucket in LADDER[: LADDER.index(PACKING_BUCKET) + 1]:
            for _, batch in batches(table, np.zeros(1, int), np.ones(1), self.cutoff, (bucket,), bucket):
                _energies(self._network, self._over_members, self._stacked, batch)

    def _chunk(self, featurize: Featurizer, items_: Items, first: int, factors: np.ndarray) -> np.ndarray:
        """(n, members, volumes) energies of the chunk that begins at index `first`."""
        n_volumes = len(factors)
        try:
            table = featurize(items_[first : first + CHUNK])
            graphs = np.repeat(np.arange(table.n_graphs), n_volumes)
            # JAX runs a batch while the next one is assembled: results are collected after all are under way.
            running = [
                (items, _energies(self._network, self._over_members, self._stacked, batch))
                for items, batch in batches(table, graphs, np.tile(factors, table.n_graphs), self.cutoff)
            ]
        except BadCrystal as error:
            raise BadCrystal(first + error.index, error.reason) from error
        except GraphTooLarge as error:
            raise BadCrystal(first + error.index, str(error)) from error
        energies = np.empty((len(graphs), self.n_members))
        for items, result in running:
            energies[items] = np.asarray(result).T[: items.stop - items.start]
        energies = energies.reshape(table.n_graphs, n_volumes, self.n_members).transpose(0, 2, 1)
        bad = np.flatnonzero(~np.isfinite(energies).all(axis=(1, 2)))
        if len(bad):
            raise BadCrystal(first + int(bad[0]), "the predicted energy is not finite")
        return energies
