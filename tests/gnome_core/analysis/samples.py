"""Small tables of entries with real structures and invented energies."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pymatgen.core import Composition

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import ENTRY_SCHEMA, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.stability.hull import Hull

FCC = np.ones((3, 3)) - np.eye(3)
MOS2 = Crystal(
    [[3.16, 0, 0], [-1.58, 2.7367, 0], [0, 0, 12.3]],
    [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75], [1 / 3, 2 / 3, 0.621], [2 / 3, 1 / 3, 0.379], [2 / 3, 1 / 3, 0.121],
     [1 / 3, 2 / 3, 0.879]],
    [42, 42, 16, 16, 16, 16],
)  # fmt: skip


def rock_salt(first: int, second: int, length: float = 4.2) -> Crystal:
    return Crystal(FCC * length / 2, [[0, 0, 0], [0.5, 0.5, 0.5]], [first, second])


def any_cell(formula: str) -> Crystal:
    """A roomy P1 cell with the formula's atoms: for tests that ask for compositions only."""
    numbers = [e.Z for e, n in Composition(formula).items() for _ in range(int(n))]
    rng = np.random.default_rng(len(formula))
    return Crystal(np.eye(3) * (20 * len(numbers)) ** (1 / 3), rng.random((len(numbers), 3)), numbers)


def entries_of(
    crystals: list[Crystal], e_form: list[float], rounds: list[int], ids: list[str] | None = None
) -> pa.Table:
    """ENTRY_SCHEMA with the columns that a hull of all of them adds: e_above_hull, on_hull."""
    ids = ids or [f"e{i}" for i in range(len(crystals))]
    batch = record_batch(
        ENTRY_SCHEMA,
        ids,
        crystals,
        formula=[reduced_formula(crystal.numbers) for crystal in crystals],
        chemsys=[chemsys(crystal.numbers) for crystal in crystals],
        energy_per_atom=e_form,
        correction_per_atom=0.0,
        e_form_per_atom=e_form,
        energy_kind="total",
        scale="test",
        source="test",
        round=rounds,
    )
    table = pa.Table.from_batches([batch])
    return measured(table, table)


def with_band_gaps(entries: pa.Table, gaps: dict[str, float]) -> pa.Table:
    """band_gap and band_gap_by of entries by id, in place of those that they have."""
    entries = entries.drop_columns([name for name in ("band_gap", "band_gap_by") if name in entries.column_names])
    known = [gaps.get(id_) for id_ in entries["id"].to_pylist()]
    entries = entries.append_column("band_gap", pa.array(known, pa.float64()))
    return entries.append_column("band_gap_by", pa.array([None if g is None else "a test" for g in known], pa.string()))


def measured(entries: pa.Table, against: pa.Table, snapshot: pa.Table | None = None) -> pa.Table:
    """`entries` with e_above_hull and on_hull of the hull of `against`, which holds them.

    snapshot: with it e_above_hull_snapshot, of the hull of these, and phase_separation_energy too.
    """
    hull = Hull.from_table(against)
    rows = [hull.ids.index(id_).as_py() for id_ in entries["id"]]
    if snapshot is not None:
        above = Hull.from_table(snapshot).e_above_hull(
            atom_counts(entries["numbers"]), entries["e_form_per_atom"].to_numpy()
        )
        entries = entries.append_column("e_above_hull_snapshot", pa.array(above))
        separation = hull.entry_e_above_others(without_polymorphs=True)[rows]
        entries = entries.append_column("phase_separation_energy", pa.array(separation, from_pandas=True))
    entries = entries.append_column("e_above_hull", pa.array(hull.entry_e_above_hull()[rows]))
    return entries.append_column("on_hull", pa.array(hull.stable_mask()[rows]))
