"""The public sets that the benchmarks and studies read: where they are, and those of forces as labelled frames.

Looked for in ../shared/data or in the folder that GNOME_DATA names; docs/potentials.md names their origin.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.frames import LabelledFrames
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA


def data_file(name: str) -> Path:
    """Where NAME.parquet is. Exits with a message when the file is not there."""
    folder = Path(os.environ.get("GNOME_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    path = folder / f"{name}.parquet"
    if not path.exists():
        sys.exit(f"{path} is missing; put the sets there or name their folder in GNOME_DATA")
    return path


def read_table(name: str) -> pa.Table:
    """The rows of forces_NAME.parquet. Exits with a message when the file is not there."""
    return pq.read_table(data_file(f"forces_{name}"))


def elemental(table: pa.Table, symbol: str) -> pa.Table:
    """The rows that hold one element only."""
    return table.filter(pc.is_in(table["formula"], pa.array([symbol, f"{symbol}1"])))


def labelled_frames(table: pa.Table, scale: str = "pbe/vasp") -> LabelledFrames:
    """Every row a frame and a group of its own."""
    crystals, forces = [], []
    for row in table.select(["lattice", "positions", "numbers", "forces_ev_per_a"]).to_pylist():
        lattice = np.reshape(row["lattice"], (3, 3))
        positions = np.reshape(row["positions"], (-1, 3))
        crystals.append(Crystal(lattice, positions @ np.linalg.inv(lattice), row["numbers"]))
        forces.append(np.reshape(np.asarray(row["forces_ev_per_a"], np.float64), (-1, 3)))
    stresses = np.full((len(table), 3, 3), np.nan)
    for i, voigt in enumerate(table["stress_gpa"].to_pylist()):
        if voigt is not None:
            xx, yy, zz, yz, xz, xy = voigt
            stresses[i] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) / EV_PER_CUBIC_ANGSTROM_IN_GPA
    return LabelledFrames(
        crystals,
        table["energy_ev"].to_numpy(),
        forces,
        stresses,
        np.ones(len(table), bool),
        np.arange(len(table)).astype(str),
        scale,
    )


def mlearn(symbol: str) -> LabelledFrames:
    """The official training split of one mlearn element (Zuo et al., J. Phys. Chem. A 124, 731, 2020)."""
    return labelled_frames(elemental(read_table("mlearn"), symbol))


def three_way(n: int, seed: int = 0, share: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices that train, that choose and that test: `share` of n each for the last two, by a fixed permutation."""
    order = np.random.default_rng(seed).permutation(n)
    held = round(share * n)
    return np.sort(order[2 * held :]), np.sort(order[held : 2 * held]), np.sort(order[:held])


__all__ = ["NUMBERS", "data_file", "elemental", "labelled_frames", "mlearn", "read_table", "three_way"]
