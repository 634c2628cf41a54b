"""Crystals that the tests of this folder write and read."""

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import ENTRY_SCHEMA, record_batch
from gnome_core.crystals.crystal import Crystal


def sample_crystals(count: int) -> list[Crystal]:
    """Valid triclinic crystals of 1 to 8 atoms of two elements, the same on every call."""
    rng = np.random.default_rng(7)
    crystals = []
    for index in range(count):
        sites = index % 8 + 1
        corners = np.array([[i, j, k] for i in (0, 0.5) for j in (0, 0.5) for k in (0, 0.5)])[:sites]
        lattice = np.eye(3) * rng.uniform(5, 7, 3) + rng.uniform(-1, 1, (3, 3))
        elements = rng.choice(np.arange(1, 95), 2, replace=False)
        frac_coords = corners + rng.uniform(-0.05, 0.05, (sites, 3))
        crystals.append(Crystal(lattice, frac_coords, elements[np.arange(sites) % 2]))
    return crystals


def entries_table(crystals: list[Crystal]) -> pa.Table:
    """The crystals as a table of ENTRY_SCHEMA, ids "entry-0", "entry-1", ..."""
    energies = np.arange(len(crystals)) / 10
    batch = record_batch(
        ENTRY_SCHEMA,
        [f"entry-{i}" for i in range(len(crystals))],
        crystals,
        formula=[reduced_formula(c.numbers) for c in crystals],
        chemsys=[chemsys(c.numbers) for c in crystals],
        energy_per_atom=energies - 5,
        correction_per_atom=0.0,
        e_form_per_atom=energies - 1,
        energy_kind="total",
        scale="test",
        source="mp",
        reference_e_form_per_atom=energies - 2,
        round=0,
    )
    return pa.Table.from_batches([batch])


def assert_same_crystal(crystal: Crystal, expected: Crystal, tolerance: float = 1e-4) -> None:
    """Equal cells (lengths, angles), elements and fractional sites, whatever the order of sites and the orientation."""
    np.testing.assert_allclose(
        crystal.lattice @ crystal.lattice.T, expected.lattice @ expected.lattice.T, atol=tolerance
    )
    assert sorted(crystal.numbers) == sorted(expected.numbers)
    delta = crystal.frac_coords[:, None] - expected.frac_coords[None]
    apart = np.abs(delta - np.round(delta)).max(axis=-1)
    apart[crystal.numbers[:, None] != expected.numbers[None]] = np.inf
    assert apart.min(axis=0).max() < tolerance
    assert len(set(apart.argmin(axis=0))) == expected.n_sites
