"""Distances to hulls beside pymatgen's, and tables of predictions."""

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

import gnome_core
from gnome_core.compositions.dense import MissingReference
from gnome_core.errors import GnomeError
from gnome_core.stability.published import published_hull

SALT = bulk("NaCl", "rocksalt", a=5.64)


def random_entries(n: int) -> list[ComputedEntry]:
    rng = np.random.default_rng(0)
    rows = [ComputedEntry(symbol, float(rng.normal(-3, 0.1))) for symbol in ("Li", "Mg", "O")]
    while len(rows) < n:
        amounts = rng.integers(0, 5, 3)
        if (amounts > 0).sum() > 1:
            formula = Composition(dict(zip(("Li", "Mg", "O"), amounts.tolist(), strict=True)))
            rows.append(ComputedEntry(formula, formula.num_atoms * float(rng.normal(-4, 0.3))))
    return rows


def test_entries_lie_above_their_hull_as_pymatgen_says():
    entries = random_entries(60)
    diagram = PhaseDiagram(entries)
    expected = [diagram.get_e_above_hull(entry) for entry in entries]
    np.testing.assert_allclose(gnome_core.e_above_hull(entries), expected, atol=1e-9)
    one = gnome_core.e_above_hull(entries[7], hull=entries)
    assert one == pytest.approx(expected[7], abs=1e-9)
    plain = [PDEntry(entry.composition, entry.energy) for entry in entries]
    np.testing.assert_allclose(gnome_core.e_above_hull(plain), expected, atol=1e-9)


def test_corrections_of_entries_count():
    entries = [ComputedEntry("Li", -1.0), ComputedEntry("O", -4.0), ComputedEntry("Li2O", -8.0, correction=-1.0)]
    other = ComputedEntry("Li2O", -9.0)
    assert gnome_core.e_above_hull([*entries, other])[-1] == pytest.approx(0, abs=1e-12)


def test_formulas_and_crystals_against_the_published_hull():
    hull = published_hull()
    (row,) = np.flatnonzero(np.array(hull.ids.to_pylist()) == "mp-22862")  # NaCl
    e_form = float(hull.e_form[row])
    assert gnome_core.e_above_hull("NaCl", e_form + 0.05, "mp") == pytest.approx(0.05)
    assert gnome_core.e_above_hull(SALT, e_form + 0.05, hull) == pytest.approx(0.05)
    above = gnome_core.e_above_hull(["NaCl", "NaCl"], [e_form, np.nan], "mp")
    assert above[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(above[1])
    # Among themselves, the elements at zero.
    np.testing.assert_allclose(gnome_core.e_above_hull(["NaCl", "NaCl", "K"], [-2.0, -1.5, 0.1]), [0, 0.5, 0.1])


def test_energies_that_are_missing_or_do_not_compare_are_told():
    entries = random_entries(5)
    with pytest.raises(GnomeError, match="give e_form"):
        gnome_core.e_above_hull(["NaCl"])
    with pytest.raises(GnomeError, match="1 energies for 2 items"):
        gnome_core.e_above_hull(["NaCl", "Li2O"], [-2.0], "mp")
    with pytest.raises(GnomeError, match="leave e_form out"):
        gnome_core.e_above_hull(entries, [0.0] * 5)
    with pytest.raises(GnomeError, match="give entries as the hull"):
        gnome_core.e_above_hull(entries, hull="mp")
    with pytest.raises(MissingReference, match="Li"):
        gnome_core.e_above_hull(entries[1:])
    with pytest.raises(GnomeError, match="Nacl2x"):
        gnome_core.e_above_hull("Nacl2x", -1.0, "mp")


@pytest.mark.usefixtures("quickly_compiled")
def test_predictions_have_a_row_for_every_crystal(tmp_path):
    from gnome_core.ensembles.ensemble import EnsembleModel
    from gnome_core.models.shipped import pretrained_members

    huge = SALT.copy()
    huge.set_cell(SALT.cell * 30, scale_atoms=True)  # no neighbours
    table = gnome_core.predictions([SALT, huge, gnome_core.to_structures(SALT)], hull="mp")
    assert table["id"].tolist() == ["0", "1", "2"]
    assert table["formula"].tolist() == ["NaCl"] * 3
    salt = gnome_core.to_crystals(SALT)
    expected = EnsembleModel.load(pretrained_members("structural")).predict([salt], over_volumes="median").median[0]
    assert table["median"][0] == pytest.approx(expected, abs=1e-6)
    assert table["median"][2] == pytest.approx(expected, abs=1e-6)
    assert table["e_above_hull"][0] == pytest.approx(gnome_core.e_above_hull(SALT, expected, "mp"), abs=1e-6)
    with pytest.raises(GnomeError, match="holds no member"):
        gnome_core.predictions(SALT, model=tmp_path)
