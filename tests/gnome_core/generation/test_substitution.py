import itertools
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Species
from pymatgen.core.structure_prediction.substitution_probability import SubstitutionPredictor, SubstitutionProbability

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.recipe import recipe_rows
from gnome_core.generation.species import _lambda_table, species_model
from gnome_core.generation.substitution import SubstitutionGenerator, element_substitutions, species_substitutions
from tests.gnome_core.generation.samples import parents

ORACLES = {  # ions -> rows found at 1e-3 with the original model, and with GNoME's (discovery anchors of the paper)
    "Na+ Cl-": (187, 215),
    "Li+ Fe3+ O2-": (102, 374),
    "Ba2+ La3+ Ti4+ O2-": (45, 677),
    "K+ Ba2+ Y3+ Si4+ O2-": (21, 862),
    "K+ Ba2+ Y3+ Si4+ O2- F-": (5, 884),
}
ALL = tuple(range(1, 99))  # the table reaches californium


def ions_of(text: str) -> tuple[tuple[int, int], ...]:
    species = [Species.from_str(s) for s in text.split()]
    return tuple((s.Z, int(s.oxi_state)) for s in species)


def test_the_table_is_pymatgens():
    theirs = SubstitutionProbability()
    numbers, charges, weights = _lambda_table()
    species = [Species(SYMBOLS[z], q) for z, q in zip(numbers, charges, strict=True)]
    assert set(species) == theirs.species
    expected = [[theirs.get_lambda(a, b) for b in species] for a in species]
    np.testing.assert_array_equal(np.where(np.isnan(weights), theirs.alpha, weights), expected)


def test_conditional_probabilities_are_pymatgens():
    model = species_model("table", "original")
    p = lambda new, old: math.exp(model.log_prob[model.index[new], model.index[old]])  # noqa: E731
    assert p((11, 1), (11, 1)) == pytest.approx(0.269245, rel=1e-5)
    assert p((19, 1), (11, 1)) == pytest.approx(0.0534487, rel=1e-5)
    assert p((8, -2), (8, -2)) == pytest.approx(0.839402, rel=1e-5)
    assert p((16, -2), (8, -2)) == pytest.approx(0.0270095, rel=1e-5)
    assert p((26, 3), (13, 3)) == pytest.approx(0.0647653, rel=1e-5)


@pytest.mark.parametrize(("text", "counts"), ORACLES.items())
def test_number_of_substitutions(text, counts):
    for scoring, count in zip(("original", "gnome"), counts, strict=True):
        rows, _ = species_substitutions(ions_of(text), 1e-3, "table", scoring, ALL)
        assert len(rows) == count


@pytest.mark.parametrize("text", list(ORACLES)[:3])  # the benchmark checks the longer ones
def test_same_sets_as_pymatgen(text):
    model = species_model("table", "original")
    species = [Species.from_str(s) for s in text.split()]
    expected = {}
    for found in SubstitutionPredictor(threshold=1e-3).list_prediction(species, to_this_composition=True):
        new_of = {old: new for new, old in found["substitutions"].items()}
        expected[tuple((new_of[s].Z, int(new_of[s].oxi_state)) for s in species)] = found["probability"]
    rows, log_prob = species_substitutions(ions_of(text), 1e-3, "table", "original", ALL)
    ours = {
        tuple((int(model.numbers[r]), int(model.charges[r])) for r in row): p
        for row, p in zip(rows, np.exp(log_prob), strict=True)
    }
    assert ours.keys() == expected.keys()
    assert all(ours[k] == pytest.approx(expected[k]) for k in ours)


def test_search_equals_brute_force():
    model = species_model("extended", "gnome")
    ions, threshold, allowed = ((3, 1), (26, 2), (8, -2)), 1e-3, (3, 8, 11, 16, 25, 26, 27, 52)
    columns = [model.index[ion] for ion in ions]
    usable = np.flatnonzero(np.isin(model.numbers, allowed))
    expected = {
        choice
        for choice in itertools.permutations(usable.tolist(), 3)
        if sum(model.log_prob[new, old] for new, old in zip(choice, columns, strict=True)) > math.log(threshold)
    }
    rows, _ = species_substitutions(ions, threshold, allowed=allowed)
    assert {tuple(row) for row in rows.tolist()} == expected
    assert len(rows) == len(expected)


def test_extension_leaves_the_table_as_it_was():
    table, extended = species_model("table"), species_model("extended")
    rows = [extended.index[z, q] for z, q in zip(table.numbers.tolist(), table.charges.tolist(), strict=True)]
    assert np.array_equal(extended.log_prob[np.ix_(rows, rows)], table.log_prob)


def test_tellurides_and_intermetallics_are_searched_only_when_asked():
    barium_telluride, iron_aluminide = ((52, -2), (56, 2)), ((13, 0), (26, 0))
    for ions in (barium_telluride, iron_aluminide):
        assert species_substitutions(ions, species="table") is None
        new, _ = element_substitutions(ions, 1e-3, "extended", "gnome", tuple(range(1, 95)))
        assert len(new) > 50
    assert len(element_substitutions(iron_aluminide, 1e-3, "elements", "gnome", None)[0]) > 50


def test_element_lists_are_distinct_ranked_and_never_the_parent():
    ions = ((3, 1), (8, -2), (26, 3))
    new, log_prob = element_substitutions(ions, 1e-3, "extended", "gnome", None)
    rows = [tuple(row) for row in new.tolist()]
    assert len(set(rows)) == len(rows)
    assert (3, 8, 26) not in rows
    assert (np.diff(log_prob) <= 0).all()


def test_allowed_elements_prune_the_search():
    allowed = (3, 8, 11, 25, 26)
    new, log_prob = element_substitutions(((3, 1), (8, -2), (26, 3)), 1e-3, "extended", "gnome", allowed)
    everything, all_log_prob = element_substitutions(((3, 1), (8, -2), (26, 3)), 1e-3, "extended", "gnome", None)
    inside = np.isin(everything, allowed).all(axis=1)
    as_dict = lambda rows, p: {tuple(r): round(v, 12) for r, v in zip(rows.tolist(), p.tolist(), strict=True)}  # noqa: E731
    assert as_dict(new, log_prob) == as_dict(everything[inside], all_log_prob[inside])


def test_recipes_do_not_depend_on_shards_and_are_cut_by_seed():
    table = parents()
    generator = SubstitutionGenerator()

    def rows(**settings):
        config, counts = GenerationConfig(**settings), Counter()
        batches = [b for s in generator.shards(table, config) for b in generator.recipes(s, table, config, counts)]
        return recipe_rows(pa.Table.from_batches(batches)), counts

    whole, counts = rows()
    assert counts["recipes"] == len(whole) == len(set(whole))
    assert rows(parents_per_shard=2)[0] == whole
    cut, cut_counts = rows(max_recipes_per_parent=10, seed=1)
    assert rows(max_recipes_per_parent=10, seed=1, parents_per_shard=1)[0] == cut
    assert rows(max_recipes_per_parent=10, seed=2)[0] != cut
    assert set(cut) <= set(whole)
    assert cut_counts["recipes"] + cut_counts["recipes_cut"] == counts["recipes"]
    assert max(Counter(r.parent for r in cut).values()) <= 10
    elements = set(table.elements)
    assert all(set(r.replacements.values()) <= elements for r in whole)


def test_parents_that_cannot_take_part_are_counted():
    table, counts = parents(), Counter()
    config = GenerationConfig(species="table", max_elements=3, max_sites=8)
    generator = SubstitutionGenerator()
    for shard in generator.shards(table, config):
        list(generator.recipes(shard, table, config, counts))
    assert counts["parents_without_species"] == 2
    assert counts["parents_too_many_elements"] == 1
    assert counts["parents"] == 3
