"""A deep ensemble with volume test-time augmentation: crystals or compositions in, median energy and spread out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.compositions.dense import N_COLUMNS, atom_counts
from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles.calibration import (
    SpreadCalibration,
    calibration_rows,
    fit_calibration,
    pairs_of,
    read_calibration,
)
from gnome_core.graphs.batching import LADDER, PACKING_BUCKET, GraphBatch, GraphTooLarge, batches
from gnome_core.graphs.featurize import (
    MIN_VOLUME_FACTOR,
    BadCrystal,
    GraphTable,
    compositional_graphs,
    structural_graphs,
)
from gnome_core.models.members import BadMember, MemberRecord, Target, apply_model, load_member

VOLUME_FACTORS = tuple(np.linspace(0.8, 1.2, 20))  # GNoME, Methods: 20 volumes from 80 % to 120 %
CHUNK = 1_000  # crystals whose graphs are held at once

OverVolumes = Literal["minimum", "median"]


@partial(jax.jit, static_argnums=0)
def _energies(network: nn.Module, variables: dict, graph: GraphBatch) -> jax.Array:
    """(n_graphs,) energies of one member: one trace a batch shape, whatever the member."""
    return apply_model(network, variables, graph)


@dataclass(frozen=True, eq=False)
class EnsemblePrediction:
    """Formation energies, eV/atom, of n crystals by m members; each member's is one number over all volumes.

    median, iqr: (n,) over members, the range calibrated where the ensemble is. best_volume_factor: (n,) volume, over
        the given one, at which the median over members is lowest. member_energies: (n, m). extrapolated: (n,) bool,
        crystals that hold two elements which the training set holds nowhere together; their range is wider.
    """

    median: np.ndarray
    iqr: np.ndarray
    best_volume_factor: np.ndarray
    member_energies: np.ndarray
    extrapolated: np.ndarray


class EnsembleModel:
    """Members of one configuration. Predictions depend only on the given list and its order.

    elements: atomic numbers that every member saw in training; energies of others are guesses. calibration: of
    interquartile ranges.
    """

    def __init__(
        self,
        variables: Sequence[dict],
        records: Sequence[MemberRecord],
        calibration: SpreadCalibration | None = None,
    ):
        self.calibration = calibration or SpreadCalibration()
        networks = [record.network() for record in records]
        if not networks or any(network != networks[0] for network in networks):
            raise BadMember(f"an ensemble needs members of one configuration, got {networks}")
        self._network = networks[0]
        self.records = tuple(records)
        self.elements = frozenset.intersection(*(frozenset(record.elements) for record in records))
        self.cutoff = self._network.config.cutoff
        self._members = [jax.tree.map(jnp.asarray, own) for own in variables]

    @classmethod
    def load(cls, paths: Sequence[str | Path], target: Target = "e_form_per_atom") -> EnsembleModel:
        """Members from their .npz files (each with its .json beside it), with the calibration in their folder.

        target: what they must predict. Raises BadMember.
        """
        members = [load_member(path) for path in paths]
        for path, (_, record) in zip(paths, members, strict=True):
            if record.target != target:
                raise BadMember(f"{path} predicts {record.target}, not {target}; name members of the other kind")
        try:
            calibration = read_calibration(Path(paths[0]).parent) if paths else None
        except ValueError as error:
            raise BadMember(str(error)) from error
        return cls([variables for variables, _ in members], [record for _, record in members], calibration)

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
        parts = [
            self._over_graphs(self.structural_graphs(crystals, chunk, factors.min()), factors, chunk.start)
            for chunk in chunks(len(crystals))
        ]
        return self._summary(parts, factors, over_volumes, atom_counts([crystal.numbers for crystal in crystals]))

    def predict_compositions(self, compositions: np.ndarray) -> EnsemblePrediction:
        """Median and spread of each formation energy of compositions (n, 95), by a compositional ensemble.

        Raises BadCrystal with the index of the first that is none.
        """
        factors = np.ones(1)
        parts = []
        for chunk in chunks(len(compositions)):
            with _shifted(chunk.start):
                table = compositional_graphs(compositions[chunk])
            parts.append(self._over_graphs(table, factors, chunk.start))
        return self._summary(parts, factors, "minimum", compositions)

    def structural_graphs(
        self, crystals: Sequence[Crystal], chunk: slice, min_volume_factor: float = MIN_VOLUME_FACTOR
    ) -> GraphTable:
        """Graphs of crystals[chunk] that serve every volume down to the given factor. Raises BadCrystal."""
        with _shifted(chunk.start):
            return structural_graphs(crystals[chunk], self.cutoff, min_volume_factor)

    def energies(
        self, table: GraphTable, graphs: np.ndarray, volume_factors: np.ndarray, members: Sequence[int] | None = None
    ) -> np.ndarray:
        """(i, m) energies, eV/atom, of items: graphs (i,) of the table at volume_factors (i,). members: None = all.

        Raises BadCrystal for a graph too large for any batch, or an energy that is not finite.
        """
        chosen = [self._members[k] for k in (range(self.n_members) if members is None else members)]
        # JAX runs a batch while the next one is assembled: results are collected after all are under way.
        try:
            running = [
                (items, self._batch_energies(chosen, batch))
                for items, batch in batches(table, graphs, volume_factors, self.cutoff)
            ]
        except GraphTooLarge as error:
            raise BadCrystal(error.index, str(error)) from error
        energies = np.empty((len(graphs), len(chosen)))
        for items, results in running:
            for column, result in enumerate(results):
                energies[items, column] = np.asarray(result)[: items.stop - items.start]
        bad = np.flatnonzero(~np.isfinite(energies).all(axis=1))
        if len(bad):
            raise BadCrystal(int(graphs[bad[0]]), "the predicted energy is not finite")
        return energies

    def median_and_iqr(self, member_energies: np.ndarray, compositions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) median and calibrated interquartile range over members, eV/atom, of energies (n, m) of compositions
        (n, 95)."""
        median, iqr = median_and_iqr(member_energies)
        return median, self.calibration.factors(compositions) * iqr

    def warm_up(self) -> None:
        """Compile every batch shape that packing can ask for, for a worker's set-up."""
        hydrogen = Crystal(np.eye(3) * 10.0, np.zeros((1, 3)), np.ones(1, np.uint8))
        table = structural_graphs([hydrogen], self.cutoff)
        for bucket in LADDER[: LADDER.index(PACKING_BUCKET) + 1]:
            for _, batch in batches(table, np.zeros(1, int), np.ones(1), self.cutoff, (bucket,), bucket):
                self._batch_energies(self._members, batch)

    def _batch_energies(self, members: list[dict], batch: GraphBatch) -> Sequence[jax.Array]:
        return [_energies(self._network, member, batch) for member in members]

    def _over_graphs(self, table: GraphTable, factors: np.ndarray, first: int) -> np.ndarray:
        """(n, members, volumes) energies of a chunk that begins at index `first`."""
        graphs = np.repeat(np.arange(table.n_graphs), len(factors))
        with _shifted(first):
            energies = self.energies(table, graphs, np.tile(factors, table.n_graphs))
        return energies.reshape(table.n_graphs, len(factors), self.n_members).transpose(0, 2, 1)

    def _summary(
        self, parts: list[np.ndarray], volume_factors: np.ndarray, over_volumes: OverVolumes, compositions: np.ndarray
    ) -> EnsemblePrediction:
        energies = np.concatenate([np.zeros((0, self.n_members, len(volume_factors))), *parts])
        member_energies = over_all_volumes(energies, over_volumes)
        median, iqr = self.median_and_iqr(member_energies, compositions)
        best = np.median(energies, axis=1).argmin(axis=1)
        extrapolated = self.calibration.extrapolated(compositions)
        return EnsemblePrediction(median, iqr, volume_factors[best], member_energies, extrapolated)


def over_all_volumes(energies: np.ndarray, over_volumes: OverVolumes) -> np.ndarray:
    """(n, m, v) energies -> (n, m)."""
    return energies.min(axis=2) if over_volumes == "minimum" else np.median(energies, axis=2)


def median_and_iqr(member_energies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) median and interquartile range of energies (n, m) over members."""
    low, median, high = np.percentile(member_energies, (25, 50, 75), axis=1)
    return median, high - low


def calibrate(
    paths: Sequence[str | Path],
    table: GraphTable,
    e_form: np.ndarray,
    is_train: np.ndarray,
    rows: np.ndarray | None = None,
) -> bytes:
    """The content of a calibration file for members trained on rows `is_train` (n,) bool of graphs with labels (n,).

    rows: (n,) bool, to which the others that are held out are cut; None = all.
    """
    members = [load_member(path) for path in paths]
    model = EnsembleModel([variables for variables, _ in members], [record for _, record in members])
    compositions = _compositions(table)
    chosen = calibration_rows(~is_train if rows is None else ~is_train & rows)
    median, iqr = median_and_iqr(model.energies(table, chosen, np.ones(len(chosen))))
    found = fit_calibration(e_form[chosen], median, iqr, compositions[chosen], pairs_of(compositions[is_train]))
    return found.to_json()


def _compositions(table: GraphTable) -> np.ndarray:
    """(g, 95) atoms of each graph."""
    counts = np.zeros((table.n_graphs, N_COLUMNS))
    np.add.at(counts, (np.repeat(np.arange(table.n_graphs), table.n_nodes), table.numbers), table.multiplicities)
    return counts


def chunks(n: int) -> list[slice]:
    """Runs of at most CHUNK of n items."""
    return [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]


@contextmanager
def _shifted(first: int) -> Generator[None]:
    """A bad crystal within keeps its reason; its index is counted from `first`."""
    try:
        yield
    except BadCrystal as error:
        raise BadCrystal(first + error.index, error.reason) from error
