from collections import Counter
from itertools import combinations
from math import comb, gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.compositions.packed import pack_compositions, parse_formulas, unpack_compositions
from gnome_core.generation.config import CompositionConfig
from gnome_core.generation.enumeration import chemical_systems, compositions, n_items, pass_shares
from gnome_core.generation.oxidation import can_be_neutral

ELEMENTS = tuple(NUMBERS[symbol] for symbol in ("Li", "O", "Al", "Si", "Fe", "Cu"))


def enumerated(config, start=0, stop=None, elements=ELEMENTS) -> np.ndarray:
    found = compositions(start, n_items(config, elements) if stop is None else stop, config, elements)
    return np.vstack([np.zeros((0, 12), np.uint8), *found])


configs = st.builds(
    CompositionConfig,
    max_counts=st.lists(st.integers(0, 5), max_size=4).map(tuple),
    max_atoms=st.integers(2, 12),
    rule=st.sampled_from(["strict", "relaxed", "literal"]),
)


@settings(max_examples=40, deadline=None)
@given(configs, st.sets(st.sampled_from(ELEMENTS), max_size=6), st.data())
def test_enumeration_has_no_duplicate_and_any_cut_gives_the_same_rows(config, chosen, data):
    elements = sorted(chosen)
    rows = enumerated(config, elements=elements)
    assert len(np.unique(rows, axis=0)) == len(rows)
    whole = unpack_compositions(rows)
    assert (np.gcd.reduce(whole, axis=1) == 1).all()
    assert can_be_neutral(whole, config.rule).all()
    assert set(np.flatnonzero(whole.any(axis=0)).tolist()) <= chosen
    assert (whole.sum(axis=1) <= config.max_atoms).all()
    for row in whole:
        assert row.max() <= config.max_counts[(row > 0).sum() - 2]
    n = n_items(config, elements)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    pieces = [enumerated(config, a, b, elements) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    assert np.array_equal(np.vstack(pieces), rows)


def test_enumeration_is_complete():
    config = CompositionConfig(max_counts=(4, 2), max_atoms=20, rule="literal")
    binary = sum(gcd(a, b) == 1 for a in range(1, 5) for b in range(1, 5))
    assert len(enumerated(config)) == comb(6, 2) * binary + comb(6, 3) * 7  # of 2^3 only (2, 2, 2) is not reduced


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_chemical_systems_are_all_combinations(k):
    elements = (3, 8, 13, 14, 26, 29, 92)
    found = chemical_systems(np.arange(comb(7, k)), k, elements)
    assert sorted(map(tuple, found.tolist())) == list(combinations(elements, k))


def test_a_late_range_is_found_at_once():
    elements = range(1, 95)
    last = chemical_systems(np.array([comb(94, 6) - 1]), 6, elements)
    assert last.tolist() == [[89, 90, 91, 92, 93, 94]]


def test_li15si4_is_among_the_default_binaries():
    rows = enumerated(CompositionConfig(), elements=(NUMBERS["Li"], NUMBERS["Si"]))
    assert parse_formulas(["Li15Si4"])[0].tolist() in rows.tolist()


def test_shares_and_counters_agree():
    config, counts = CompositionConfig(max_counts=(6, 4, 2)), Counter()
    passed = sum(map(len, compositions(0, n_items(config, ELEMENTS), config, ELEMENTS, counts)))
    shares = pass_shares(config, ELEMENTS, ("strict", "relaxed", "literal"))
    assert passed == sum(by_rule["relaxed"] for _, by_rule in shares.values())
    for k, (n, by_rule) in shares.items():
        assert (counts[f"compositions_{k}"], counts[f"compositions_{k}_passed"]) == (n, by_rule["relaxed"])
        assert by_rule["strict"] < by_rule["relaxed"] <= by_rule["literal"] == n


def test_given_formulas_are_reduced_distinct_and_filtered():
    config = CompositionConfig(formulas=("Li15Si4", "Fe4O6", "Fe2O3", "MgF4", "KBa2YSi2O7"))
    assert n_items(config, ()) == 4
    rows = enumerated(config)
    assert rows.tolist() == parse_formulas(["Li15Si4", "Fe2O3", "KBa2YSi2O7"]).tolist()
    assert len(enumerated(config, 1, 3)) == 1


@pytest.mark.parametrize("formula", ["Li15Xx", "", "Li0.5O", "LiNaKMgCaSrBaO", "Lr2O3", "Li300O"])
def test_what_is_no_usable_formula_is_named(formula):
    with pytest.raises(ValueError, match=formula or "''"):
        parse_formulas(["NaCl", formula])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(1, 94), st.integers(1, 255), min_size=1, max_size=6))
def test_packing_keeps_compositions(atoms):
    whole = np.zeros((1, 95), int)
    whole[0, list(atoms)] = list(atoms.values())
    packed = pack_compositions(whole)
    assert packed.dtype == np.uint8
    assert np.array_equal(unpack_compositions(packed), whole)


def test_seven_elements_do_not_fit():
    whole = np.zeros((2, 95), int)
    whole[0, 1:7], whole[1, 1:8] = 1, 1
    with pytest.raises(ValueError, match="row 1"):
        pack_compositions(whole)
