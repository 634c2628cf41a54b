from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from gnome_core.selection.selection import select, select_random

FORMULA = ["Li2O", "Li2O", "LiO", "FeO", "Fe2O3", "FeO3", "NaCl", "Na3Cl"]
CHEMSYS = ["Li-O", "Li-O", "Li-O", "Fe-O", "Fe-O", "Fe-O", "Cl-Na", "Cl-Na"]
DIGEST = ["d7", "d1", "d2", "d3", "d4", "d5", "d6", "d0"]
ABOVE = np.array([-0.02, -0.01, 0.03, -0.05, -0.04, 0.01, 0.06, np.nan])
IQR = np.array([0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.02, 0.0])


def chosen(selection) -> list[str]:
    return [DIGEST[row] for row in selection.selected]


def test_threshold_minimum_per_composition_and_rank():
    selection = select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=10)
    assert chosen(selection) == ["d3", "d4", "d7", "d5", "d2"]
    assert selection.counts == {"selected": 5, "above_threshold": 1, "not_finite": 1, "not_lowest_of_composition": 1}


def test_budget_and_chemsys_cap_are_counted():
    selection = select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=2, max_per_chemsys=1)
    assert chosen(selection) == ["d3", "d7"]
    assert selection.counts["chemsys_full"] == 3
    selection = select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=2)
    assert chosen(selection) == ["d3", "d4"]
    assert selection.counts["over_budget"] == 3
    assert selection.reason[0] == "over_budget"
    assert select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=0).counts["selected"] == 0


def test_confidence_bound_ranks_the_uncertain_first():
    selection = select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=10, kappa=1.0)
    assert chosen(selection)[0] == "d1"
    assert "d6" in chosen(selection)


def test_missing_spread_matters_only_with_a_weight():
    spread = np.full(8, np.nan)
    assert len(select(FORMULA, CHEMSYS, DIGEST, ABOVE, spread, budget=10).selected) == 5
    assert select(FORMULA, CHEMSYS, DIGEST, ABOVE, spread, budget=10, kappa=1.0).counts == {
        "selected": 0,
        "not_finite": 8,
    }


def test_more_than_one_per_composition():
    assert len(select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=10, per_composition=2).selected) == 6


def test_result_does_not_depend_on_row_order():
    rng = np.random.default_rng(0)
    formula = [f"F{i}" for i in rng.integers(0, 60, 400)]
    chemsys = [f"S{name[1:2]}" for name in formula]
    digest = [f"{i:04d}" for i in rng.permutation(400)]
    above = np.round(rng.normal(0, 0.03, 400), 2)  # many ties
    options = {"budget": 25, "max_per_chemsys": 4}
    first = select(formula, chemsys, digest, above, above, **options)
    order = rng.permutation(400)
    mixed = [[column[i] for i in order] for column in (formula, chemsys, digest)]
    second = select(*mixed, above[order], above[order], **options)
    assert [digest[i] for i in first.selected] == [mixed[2][i] for i in second.selected]
    assert sum(first.counts.values()) == 400
    random = [select_random(f, d, budget=25, seed=1) for f, d in ((formula, digest), (mixed[0], mixed[2]))]
    assert [digest[i] for i in random[0].selected] == [mixed[2][i] for i in random[1].selected]


def test_arrow_columns_and_no_rows():
    columns = [pa.chunked_array([pa.array(c[:3]), pa.array(c[3:])]) for c in (FORMULA, CHEMSYS, DIGEST)]
    assert chosen(select(*columns, ABOVE, IQR, budget=10)) == chosen(
        select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=10)
    )
    assert select([], [], [], np.zeros(0), np.zeros(0), budget=3).counts == {"selected": 0}
    assert select_random([], [], budget=3, seed=0).counts == {"selected": 0}


def test_random_baseline_is_uniform_over_compositions():
    """A composition with 50 candidates is drawn as often as one with a single candidate."""
    formula = ["A"] * 50 + ["B", "C", "D"]
    digest = [f"{i}" for i in range(53)]
    drawn = Counter(formula[select_random(formula, digest, budget=1, seed=seed).selected[0]] for seed in range(400))
    assert min(drawn.values()) > 60
    selection = select_random(formula, digest, budget=2, seed=5)
    assert len({formula[i] for i in selection.selected}) == 2
    assert selection.counts == {"selected": 2, "over_budget": 2, "other_of_composition": 49}
    representatives = {select_random(formula[:50], digest[:50], budget=1, seed=seed).selected[0] for seed in range(40)}
    assert len(representatives) > 15


def test_unusable_input_is_named():
    with pytest.raises(ValueError, match="lengths"):
        select(FORMULA, CHEMSYS, DIGEST, ABOVE[:3], IQR, budget=1)
    with pytest.raises(ValueError, match="budget"):
        select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=-1)
    with pytest.raises(ValueError, match="missing"):
        select([*FORMULA[:-1], None], CHEMSYS, DIGEST, ABOVE, IQR, budget=1)


def test_exploration_takes_its_share_of_the_uncertain_first():
    spread = np.array([0.0, 0.001, 0.0, 0.002, 0.0, 0.0, 0.05, 0.3])
    above = np.where(np.isnan(ABOVE), 0.2, ABOVE)
    selection = select(FORMULA, CHEMSYS, DIGEST, above, spread, budget=4, explore=0.5)
    # d0 and d6 lie above the threshold, but not by more than their spread.
    assert [DIGEST[row] for row in selection.explored] == ["d0", "d6"]
    assert chosen(selection) == ["d0", "d6", "d3", "d4"]
    assert sum(selection.counts.values()) == 8
    capped = select(FORMULA, CHEMSYS, DIGEST, above, spread, budget=4, explore=0.5, max_per_chemsys=1)
    assert [DIGEST[row] for row in capped.explored] == ["d0", "d3"]


def test_a_budget_of_cost_is_filled_in_order():
    cost = np.array([4.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 1.0])
    selection = select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=10, cost=cost, cost_budget=6.0)
    assert chosen(selection) == ["d3", "d4"]  # 5 spent; d7 would cost 4 more, and what comes after it waits
    assert selection.counts["over_budget"] == 3
    selection = select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=10, cost=cost, cost_budget=3.5)
    assert selection.counts["too_costly"] == 1
    assert chosen(selection)[0] == "d3"
    with pytest.raises(ValueError, match="cost"):
        select(FORMULA, CHEMSYS, DIGEST, ABOVE, IQR, budget=1, cost=np.zeros(8))


def test_by_cost_the_cheap_likely_ones_come_first():
    formula, chemsys, digest = [f"F{i}" for i in range(4)], [f"S{i}" for i in range(4)], list("abcd")
    above = np.array([-0.05, -0.04, 0.03, -0.04])
    spread, cost = np.array([0.02, 0.02, 0.02, 0.02]), np.array([8.0, 1.0, 1.0, 2.0])
    plain = select(formula, chemsys, digest, above, spread, budget=4, cost=cost)
    by_cost = select(formula, chemsys, digest, above, spread, budget=4, cost=cost, by_cost=True)
    assert [digest[row] for row in plain.selected] == ["a", "b", "d", "c"]
    # Chances 0.9996, 0.9965, 0.0215, 0.9965 over their costs.
    assert [digest[row] for row in by_cost.selected] == ["b", "d", "a", "c"]
