"""Candidates come of the parents' kind, hold what may come in, and what is left out is told."""

import pytest
from ase import Atoms
from ase.build import bulk

import gnome_core
from gnome_core.crystals.crystal import Crystal
from gnome_core.errors import GnomeError

SALT = bulk("NaCl", "rocksalt", a=5.64)


def test_substitutions_are_of_the_parents_kind_and_order():
    parents = [SALT, gnome_core.to_structures(SALT), gnome_core.to_crystals(SALT)]
    found = gnome_core.substitutions(parents, elements=["K", "Br"])
    kinds = [type(candidate) for candidate in found]
    each = len(found) // 3
    assert each > 2
    assert kinds[:each] == [Atoms] * each
    assert kinds[2 * each :] == [Crystal] * each
    formulas = {candidate.reduced_formula for candidate in found[each : 2 * each]}
    assert {"KCl", "NaBr", "KBr"} <= formulas
    assert "NaCl" not in formulas


def test_any_element_may_come_in_where_none_is_named():
    found = gnome_core.substitutions(SALT)
    symbols = {symbol for candidate in found for symbol in candidate.get_chemical_symbols()}
    assert {"Li", "Ag", "F", "Br"} <= symbols
    assert len(gnome_core.substitutions(SALT, per_parent=5, seed=1)) == 5


def test_what_comes_into_one_parent_is_not_what_another_holds():
    alone = gnome_core.substitutions(SALT, elements=["K"])
    beside = gnome_core.substitutions([SALT, bulk("MgO", "rocksalt", a=4.2)], elements=["K"])
    assert [one.get_chemical_formula() for one in beside[: len(alone)]] == [one.get_chemical_formula() for one in alone]
    assert not {"Mg", "O"} & {s for one in beside[: len(alone)] for s in one.get_chemical_symbols()}


def test_saps_replaces_parts_of_an_ion():
    double = SALT.repeat((2, 1, 1))
    found = gnome_core.saps(double, elements=["K"])
    assert {candidate.get_chemical_formula() for candidate in found} == {"Cl2KNa", "ClKNa2"}
    assert all(len(candidate) == 4 for candidate in found)
    balanced = gnome_core.saps(double, elements=["K"], charge_balance=True)
    assert {candidate.get_chemical_formula() for candidate in balanced} == {"Cl2KNa"}


def test_a_parent_without_candidates_is_told():
    big = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat((3, 3, 2))  # 144 sites
    with pytest.warns(UserWarning, match=r"1 parents without candidates, such as 0 \(too_many_sites\)"):
        assert gnome_core.substitutions(big, elements=["K"]) == []


@pytest.mark.parametrize("elements", [["Xx"], "K"])
def test_what_is_no_list_of_symbols_is_told(elements):
    with pytest.raises(GnomeError, match="is no list of symbols"):
        gnome_core.substitutions(SALT, elements=elements)


@pytest.mark.filterwarnings("ignore:.*packing_failed")
def test_random_structures_are_repeatable():
    first = gnome_core.random_structures("LiCl", 3, max_formula_units=1, seed=2)
    again = gnome_core.random_structures(["LiCl"], 3, max_formula_units=1, seed=2, kind="atoms")
    assert [one.reduced_formula for one in first] == ["LiCl"] * len(first)
    assert [one.volume for one in first] == pytest.approx([one.get_volume() for one in again])


def test_formulas_that_are_none_or_too_large_are_told():
    with pytest.raises(GnomeError, match="Xx"):
        gnome_core.random_structures("Xx2")
    with pytest.raises(GnomeError, match="more than 24 atoms; raise max_sites"):
        gnome_core.random_structures("Li31Si8")
