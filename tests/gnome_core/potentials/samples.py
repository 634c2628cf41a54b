"""Crystals for the tests of potentials, and the original implementation's answers."""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.chgnet_potential import CHGNetPotential

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"

FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
COPPER = Crystal(3.6 * FCC, [[0, 0, 0]], [29])
ROCKSALT = Crystal(5.6 * FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
LONELY = Crystal(np.eye(3) * 14.0, [[0, 0, 0]], [18])
# No symmetry at all, bonds on both sides of the 3 Å cutoff, every answer far from zero.
SKEWED = Crystal(
    [[4.1, 0.2, -0.1], [0.6, 4.6, 0.3], [-0.4, 0.5, 5.2]],
    [[0.02, 0.05, 0.01], [0.48, 0.55, 0.47], [0.51, 0.03, 0.52], [0.04, 0.47, 0.55], [0.47, 0.51, 0.03]],
    [20, 22, 8, 8, 8],
)


@cache
def published() -> CHGNetPotential:
    return CHGNetPotential.published()


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    """Site i of the crystal becomes sites i * k to (i + 1) * k of the supercell of k cells."""
    images = np.indices(repeats).reshape(3, -1).T
    frac = (crystal.frac_coords[:, None] + images).reshape(-1, 3) / repeats
    return Crystal(crystal.lattice * np.array(repeats)[:, None], frac, np.repeat(crystal.numbers, len(images)))


def reference(name: str) -> list[dict]:
    """Rows of a reference table. Skips the test when the data are not beside the repository."""
    path = SHARED / f"chgnet_0.3.0_{name}.parquet"
    if not path.exists():
        pytest.skip(f"the original implementation's answers ({path.name}) are not beside the repository")
    return pq.read_table(path).to_pylist()


def reference_crystal(row: dict, suffix: str = "") -> Crystal:
    lattice, frac = (np.reshape(row[name + suffix], (-1, 3)) for name in ("lattice", "frac_coords"))
    return Crystal(lattice, frac, row["numbers"])
