"""Figures of a judge, counted by hand; the published hull and a crystal's own place on it."""

import numpy as np
import pytest

from gnome_core.analysis.judge import disturbed, judged
from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.crystals.readers import elemental_entries
from gnome_core.stability.hull import Hull
from gnome_core.stability.published import as_published, compatible, energies_without, published_hull
from gnome_core.stability.references import ElementalReferences
from tests.gnome_core.potentials.samples import ROCKSALT


def test_figures_counted_by_hand():
    labels = np.array([-1.0, -0.5, 0.2, -0.3, 0.1])
    hull = np.array([-0.9, -0.6, 0.0, -0.3, np.nan])
    predicted = np.array([-1.06, -0.64, 0.25, np.nan, 0.0])
    found = judged(labels, predicted, hull)
    # Truly 0.1 below, 0.1 above, 0.2 above, on the hull; said: 0.16 below, 0.04 below, 0.25 above, nothing.
    at = found.at[0.0]
    assert (at.true_positives, at.false_positives, at.true_negatives, at.false_negatives) == (1, 1, 1, 1)
    assert (found.n, found.failed) == (5, 1)
    assert found.errors.mae == pytest.approx((0.06 + 0.14 + 0.05 + 0.1) / 4)
    assert found.bias == pytest.approx((-0.06 - 0.14 + 0.05 - 0.1) / 4)
    assert [(m.below, m.n) for m in found.margins] == [(0.0, 2), (0.02, 2), (0.05, 1), (0.1, 1)]
    assert [m.stable for m in found.margins] == [0.5, 0.5, 1.0, 1.0]


def composition(**amounts: int) -> np.ndarray:
    from gnome_core.compositions.formulas import NUMBERS

    row = np.zeros(N_COLUMNS)
    for symbol, amount in amounts.items():
        row[NUMBERS[symbol]] = amount
    return row


def test_a_composition_is_measured_against_all_others():
    rows = np.stack([composition(Li=1), composition(O=1), composition(Li=2, O=1), composition(Li=1, O=1)])
    hull = Hull.from_entries(["Li", "O", "Li2O", "LiO"], rows, np.array([0.0, 0.0, -2.0, -1.6]), "labels")
    # Without itself Li4O2 lies between Li and LiO; Li3O is none of them and lies between Li and Li2O.
    asked = np.stack([composition(Li=4, O=2), composition(Li=3, O=1), composition(Mg=1, O=1)])
    energies = energies_without(hull, asked)
    np.testing.assert_allclose(energies[:2], [-1.6 * 2 / 3, -2.0 * 3 / 4])
    assert np.isnan(energies[2])


def test_the_published_hull_knows_magnesia():
    hull = published_hull()
    assert len(hull) > 33_000
    assert hull.e_hull(composition(Mg=1, O=1)[None])[0] == pytest.approx(-3.0, abs=0.15)
    assert energies_without(hull, composition(Mg=2, O=2)[None])[0] > -2.0


def test_compounds_of_an_element_that_the_judge_has_too_high_are_not_too_stable():
    """CHGNet's tungsten lies 0.2 eV/atom above PBE's; the Materials Project's formation energies are from PBE's."""
    entries = elemental_entries("chgnet-0.3.0")
    own = ElementalReferences.lowest(entries["numbers"], entries["energy_per_atom"].to_numpy(), "chgnet-0.3.0")
    published = as_published(own)
    assert own.energies[74] - published.energies[74] == pytest.approx(0.196, abs=0.005)
    assert published.energies[70] == own.energies[70]  # ytterbium is not among the published ones
    carbide, energies = [np.array([74, 6])], np.array([-11.0])
    moved = published.formation_energy_per_atom(carbide, energies) - own.formation_energy_per_atom(carbide, energies)
    calculated = ElementalReferences("pbe+u/mp2020/vasp", own.energies)
    assert as_published(calculated) is calculated
    assert moved[0] == pytest.approx(0.5 * 0.196 + 0.5 * (own.energies[6] - published.energies[6]), abs=0.003)


def test_scales_that_compare_with_the_published_hull():
    for scale in ("chgnet-0.3.0", "nequix-oam-1/mp2020", "nequix-oam-1/mp2020/chgnet-2-12345678", "pbe+u/mp2020/vasp"):
        assert compatible(scale)
    for scale in ("r2scan/vasp", "chgnet-r2scan", "pbe/espresso", "nequip-1234"):
        assert not compatible(scale)


def test_disturbed_cells_are_larger_and_the_same_for_a_seed():
    (a,), (b,) = disturbed([ROCKSALT]), disturbed([ROCKSALT])
    np.testing.assert_array_equal(a.frac_coords, b.frac_coords)
    assert a.volume == pytest.approx(1.05 * ROCKSALT.volume)
    moves = (a.frac_coords - ROCKSALT.frac_coords) @ a.lattice
    assert 0.02 < np.abs(moves).mean() < 0.3
