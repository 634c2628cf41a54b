"""A store's tables for notebooks and scripts: read only, from a folder or a bucket."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from gnome_core.stability.hull import Hull
from pipelines.reading.committed import hull_until
from pipelines.reading.discoveries import stable_crystals
from pipelines.reading.entries import measured_entries, new_on_hull, newest_hull
from pipelines.reading.outcomes import evaluated_jobs
from pipelines.store.storage import is_local
from pipelines.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = "pd.DataFrame | pa.Table"

ROUNDS_SCHEMA = pa.schema(
    [
        pa.field("round", pa.int32()),
        pa.field("chosen", pa.int64()),  # jobs that the models chose and whose evaluation has ended
        pa.field("hits", pa.int64()),  # of these, at or below the hull as it was before the round
        pa.field("hit_rate", pa.float64()),
        pa.field("chosen_by_chance", pa.int64()),
        pa.field("hits_by_chance", pa.int64()),
        pa.field("hit_rate_by_chance", pa.float64()),
        pa.field("precision", pa.float64()),  # share of hits among those that the ensemble's median put at the hull
        pa.field("mae", pa.float64()),  # of the ensemble's median, eV/atom
        pa.field("bias", pa.float64()),  # median - evaluated, eV/atom
        pa.field("inside_iqr", pa.float64()),  # share of errors within the interquartile range; 0.5 when calibrated
        pa.field("failed", pa.int64()),  # evaluations without a usable energy
        pa.field("stable", pa.int64()),  # crystals of the round on the newest hull
    ],
    metadata={"schema": "gnome.round", "schema_version": "1", "unit": "eV/atom"},
)


class OpenStore:
    """What is committed in a store; nothing is written. Energies are eV/atom on one scale (column `scale`).

    Tables are pandas DataFrames, or Arrow tables with arrow=True. Those of crystals hold them in the columns lattice
    (9 numbers, vectors as rows, Å), frac_coords (3 n) and numbers (n atomic numbers): `gnome_core.to_structures` and
    every other function of `gnome_core` take such a table as it is.

    Raises UserError before the store has a hull, StoreError for a file that is not as it was committed.
    """

    def __init__(self, store: Store):
        self._store = store

    def __repr__(self) -> str:
        return f"open_store({self._store.root!r})"

    def entries(self, *, arrow: bool = False) -> Frame:
        """Every entry of the newest hull, sorted by id: the snapshot's (round 0) and what the rounds found.

        Columns: id, formula, chemsys, round, source, parent and job; energy_per_atom (total, raw),
        correction_per_atom, e_form_per_atom; e_above_hull_snapshot, e_above_hull, e_above_hull_others (all but itself),
        phase_separation_energy, on_hull; band_gap (eV) and band_gap_by, of first-principles results; and the crystal.
        """
        return _as_frame(measured_entries(self._store), arrow)

    def stable(self, *, arrow: bool = False) -> Frame:
        """The discoveries, those that lower the hull most first: rows of `entries` that rounds found and that are on
        the newest hull, with generator (of the last step) and root (the snapshot's entry they descend from, or the
        first random structure)."""
        entries = measured_entries(self._store)
        found = stable_crystals(self._store, entries)
        new = new_on_hull(entries)
        place = {id_: row for row, id_ in enumerate(new["id"].to_pylist())}
        table = new.take(pa.array([place[crystal.id] for crystal in found], pa.int64()))
        for name, values in {
            "generator": [crystal.chain[0].generator for crystal in found],
            "root": [crystal.chain[-1].id for crystal in found],
        }.items():
            table = table.append_column(name, pa.array(values, pa.string()))
        return _as_frame(table, arrow)

    def rounds(self, *, arrow: bool = False) -> Frame:
        """One row a round that has evaluated anything (ROUNDS_SCHEMA): hits of the models and of chance, errors."""
        from pipelines.report.summary import summarize

        found = stable_crystals(self._store, measured_entries(self._store))
        rows = [
            {
                "round": row.round,
                **row.figures(),
                "stable": sum(crystal.round == row.round for crystal in found),
            }
            for row in summarize(evaluated_jobs(self._store))
        ]
        return _as_frame(pa.Table.from_pylist(rows, ROUNDS_SCHEMA), arrow)

    def hull(self) -> Hull:
        """The newest hull, which `gnome_core.e_above_hull` and `gnome_core.predictions` measure against."""
        return hull_until(self._store.root, newest_hull(self._store)[1])


def open_store(path: str | PathLike) -> OpenStore:
    """The store of a folder or of gs://BUCKET/PATH. Raises UserError where there is none."""
    root = fspath(path)
    # A notebook may go to another folder afterwards.
    return OpenStore(Store.open(str(Path(root).absolute()) if is_local(root) else root))


def _as_frame(table: pa.Table, arrow: bool) -> Frame:
    return table if arrow else table.to_pandas()
