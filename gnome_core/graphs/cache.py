"""Graphs of crystals kept in files, so that later members, runs and rounds need not build them again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.files import replacing
from gnome_core.graphs.featurize import LENGTH_TOLERANCE, MIN_VOLUME_FACTOR, GraphTable, structural_graphs

VERSION = 1  # to be raised when the same crystals get other graphs
ARRAYS = tuple(field.name for field in fields(GraphTable))


def cached_graphs(crystals: Sequence[Crystal], cutoff: float, folder: str | Path | None) -> GraphTable:
    """`structural_graphs` of the crystals, from the folder where they have been built before; None = no such folder.

    A file is named by the digest of the crystals and of what shapes graphs; one that cannot be read is made again.
    Raises BadCrystal.
    """
    if folder is None:
        return structural_graphs(crystals, cutoff)
    path = Path(folder) / f"graphs-{_digest(crystals, cutoff)}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return GraphTable(**{name: arrays[name] for name in ARRAYS})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass
    table = structural_graphs(crystals, cutoff)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:  # workers may build the same graphs at once
        np.savez(file, allow_pickle=False, **{name: getattr(table, name) for name in ARRAYS})
    return table


def _digest(crystals: Sequence[Crystal], cutoff: float) -> str:
    digest = hashlib.blake2b(repr((VERSION, cutoff, MIN_VOLUME_FACTOR, LENGTH_TOLERANCE)).encode(), digest_size=16)
    for crystal in crystals:
        for array in (crystal.lattice, crystal.frac_coords, crystal.numbers):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def concatenate(tables: Sequence[GraphTable]) -> GraphTable:
    """The graphs of all tables (at least one) in one, in order."""

    def offsets(name: str) -> np.ndarray:
        parts, end = [np.zeros(1, np.int64)], 0
        for table in tables:
            own = getattr(table, name)
            parts.append(own[1:] + end)
            end += own[-1]
        return np.concatenate(parts)

    plain = [name for name in ARRAYS if not name.endswith("_offsets")]
    return GraphTable(
        **{name: np.concatenate([getattr(table, name) for table in tables]) for name in plain},
        node_offsets=offsets("node_offsets"),
        edge_offsets=offsets("edge_offsets"),
    )
