"""The Materials Project's hull as published: formation energies of its stable compositions, with MP2020 corrections."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import pyarrow.parquet as pq

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.stability.hull import Hull

SCALE = "mp2020"


@cache
def published_hull() -> Hull:
    """One entry a composition, its id the Materials Project's; an element the table lacks is added at zero."""
    with resources.as_file(resources.files("gnome_core.data") / "mp_stable.parquet") as path:
        table = pq.read_table(path)
    compositions = np.zeros((len(table), N_COLUMNS))
    for row, formula in enumerate(table["formula"].to_pylist()):
        for z, amount in composition_of(formula):
            compositions[row, z] = amount
    held = (compositions[(compositions > 0).sum(axis=1) == 1] > 0).any(axis=0)
    lacking = [z for z in range(1, N_COLUMNS) if not held[z]]
    return Hull.from_entries(
        [*table["id"].to_pylist(), *(f"element {SYMBOLS[z]}" for z in lacking)],
        np.concatenate([compositions, np.eye(N_COLUMNS)[lacking]]),
        np.append(table["e_form_per_atom"].to_numpy(), np.zeros(len(lacking))),
        SCALE,
    )


def energies_without(hull: Hull, compositions: np.ndarray) -> np.ndarray:
    """(n,) energy of the hull, eV/atom, at compositions (n, 95), without what it has of that very composition.

    NaN where the hull lacks an element.
    """
    energies = np.full(len(compositions), np.nan)
    known = np.flatnonzero(hull.has_references(compositions))
    energies[known] = hull.e_hull(compositions[known])
    entries = {key: row for row, key in enumerate(_keys(hull.compositions(np.arange(len(hull)))))}
    for row, key in zip(known, _keys(compositions[known]), strict=True):
        if key in entries and (phases := hull.competing_phases(entries[key])):
            energies[row] = sum(phase.atom_fraction * hull.e_form[phase.entry] for phase in phases)
    return energies


def _keys(compositions: np.ndarray) -> list[bytes]:
    """Equal for equal reduced compositions, which are whole numbers."""
    counts = compositions.astype(np.int64)
    return [row.tobytes() for row in counts // np.gcd.reduce(counts, axis=1)[:, None]]
