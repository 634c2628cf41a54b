"""Entries of a store beside the Materials Project's hull as published, which never mixes with the store's own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gnome_core.compositions.dense import atom_counts
from gnome_core.stability.chance import calibrations
from gnome_core.stability.published import ERRORS, as_published, compatible, published_hull
from gnome_core.stability.references import ElementalReferences


class PublishedDistances(NamedTuple):
    """(n,) eV/atom above the published hull, negative = below it, the evaluator's mean absolute error of the formation
    energies behind them, and the chance of being truly at or below it (`gnome_core.stability.chance`). NaN: no entry of
    a round, another scale, an element without energy, no measurement.
    """

    above: np.ndarray
    uncertainty: np.ndarray
    stable: np.ndarray


def published_distances(entries: pa.Table, references: ElementalReferences) -> PublishedDistances:
    """entries: n rows of ENTRY_SCHEMA, of a store with these references."""
    above, uncertainty, stable = np.full((3, len(entries)), np.nan)
    rows = np.flatnonzero(entries["round"].to_numpy() > 0)
    if len(rows) and compatible(references.scale):
        own = entries.take(pa.array(rows))
        energies = np.add(own["energy_per_atom"].to_numpy(), own["correction_per_atom"].to_numpy())
        e_form = as_published(references).formation_energy_per_atom(own["numbers"], energies)
        above[rows] = published_hull().e_above_hull(atom_counts(own["numbers"]), e_form)
        uncertainty[rows] = ERRORS.get(references.scale, np.nan)
        if calibration := calibrations("published").get(references.scale):
            stable[rows] = calibration.chance(above[rows])
    return PublishedDistances(above, uncertainty, stable)
