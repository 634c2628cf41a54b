import numpy as np
import pytest
from pymatgen.core.structure_matcher import StructureMatcher

from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.clusters import Matcher
from gnome_core.matching.prefilter import may_match


def random_crystal(rng: np.random.Generator, n_atoms: int) -> Crystal:
    lattice = np.eye(3) * n_atoms ** (1 / 3) * 2.3 + rng.normal(0, 0.6, (3, 3))
    numbers = np.sort(rng.choice([8, 14, 22], n_atoms, p=[0.5, 0.3, 0.2]))
    return Crystal(lattice, rng.random((n_atoms, 3)), numbers)


def disturbed(crystal: Crystal, rng: np.random.Generator, size: float) -> Crystal:
    """Strained by `size` / 5, atoms moved by up to about `size` Å in a cell of 12 Å^3 an atom."""
    lattice = crystal.lattice @ (np.eye(3) + rng.normal(0, size / 5, (3, 3)))
    shift = rng.normal(0, size / 2, (crystal.n_sites, 3)) @ np.linalg.inv(lattice)
    return Crystal(lattice, crystal.frac_coords + shift + rng.random(3), crystal.numbers)


@pytest.mark.parametrize("n_atoms", [1, 2, 4, 7])
def test_never_rejects_what_the_matcher_joins(n_atoms):
    """Pairs around the matcher's tolerances: whatever the matcher accepts passes, and much of the rest does not."""
    rng = np.random.default_rng(n_atoms)
    matcher = Matcher()
    fits = rejected = 0
    for _ in range(60):
        first = random_crystal(rng, n_atoms)
        second = disturbed(first, rng, rng.uniform(0.0, 1.2))
        a, b = matcher.reduce(first), matcher.reduce(second)
        if a.content != b.content:
            continue
        fit = StructureMatcher().fit(a.structure, b.structure, skip_structure_reduction=True)
        passes = may_match(a.cell, b.cell)
        assert passes or not fit
        fits, rejected = fits + fit, rejected + (not passes)
    assert fits > 10
    assert rejected > 0


def test_rejects_other_structures():
    rng = np.random.default_rng(0)
    matcher = Matcher()
    cells = [
        matcher.reduce(Crystal(np.diag([4.0, 5.0, 6.5]), rng.random((9, 3)), [22] * 3 + [8] * 6)) for _ in range(12)
    ]
    passed = sum(may_match(a.cell, b.cell) for i, a in enumerate(cells) for b in cells[:i])
    assert passed < 33  # of 66
    assert all(may_match(a.cell, a.cell) for a in cells)
