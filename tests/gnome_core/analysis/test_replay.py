import numpy as np
import pyarrow as pa
import pytest

from gnome_core.analysis.replay import ReplayConfig, read_dataset, replay, summarise
from gnome_core.analysis.surrogate import bond_features, composition_features, forest_predictions
from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.crystal import Crystal
from gnome_core.selection.cost import dft_cost
from tests.gnome_core.analysis.samples import rock_salt

CATIONS, ANIONS = ["Li", "K", "Mg", "Ca", "Al", "Ti"], ["O", "S", "F"]


def labelled(n: int = 400) -> pa.Table:
    """Ternary compounds whose formation energy follows from their electronegativities, with noise."""
    rng = np.random.default_rng(0)
    depth = dict(zip(CATIONS, np.linspace(0.3, 1.2, len(CATIONS)), strict=True))
    depth |= dict(zip(ANIONS, [1.3, 0.6, 1.6], strict=True))
    rows, seen = [], set()
    while len(rows) < n:
        first, second = sorted(rng.choice(CATIONS, 2, replace=False))
        anion = str(rng.choice(ANIONS))
        a, b, x = rng.integers(1, 5, 3)
        formula = f"{first}{a}{second}{b}{anion}{x}"
        if formula in seen:
            continue
        seen.add(formula)
        share = x / (a + b + x)
        mean = (a * depth[first] + b * depth[second]) / (a + b)
        rows.append(
            {
                "id": f"c{len(rows)}",
                "composition": formula,
                "e_form_per_atom": float(-4 * share * (1 - share) * mean * depth[anion] + rng.normal(0, 0.05)),
            }
        )
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def data():
    return read_dataset(labelled())


CONFIG = ReplayConfig(seeds=2, initial=0.15, spend=0.2, rounds=3)


def test_a_model_based_policy_finds_more_than_chance():
    """A seventh is stable and follows from the composition: twice as many as by chance must be found."""
    table = labelled()
    energy = table["e_form_per_atom"].to_numpy()
    data = read_dataset(table.append_column("above", pa.array(energy - np.quantile(energy, 0.15))), distance="above")
    ends = {
        policy: np.mean([list(replay(data, policy, seed, CONFIG))[-1].found for seed in range(3)])
        for policy in ("ours", "lcb", "random")
    }
    assert data.stable.mean() == pytest.approx(0.15, abs=0.01)
    assert ends["ours"] > 2 * ends["random"]
    assert ends["lcb"] > 2 * ends["random"]


def test_a_campaign_spends_its_budget_and_nothing_twice(data):
    for policy in ("ours", "random", "uncertainty", "lcb"):
        rounds = list(replay(data, policy, 1, CONFIG))
        assert [r.round for r in rounds] == [1, 2, 3]
        hidden = len(data) - round(0.15 * len(data))
        assert rounds[-1].evaluations == round(0.2 * hidden)
        assert np.all(np.diff([r.found for r in rounds]) >= 0)
        assert rounds[-1].found <= rounds[-1].evaluations
        assert rounds[-1].cost > rounds[0].cost > 0
        assert list(replay(data, policy, 1, CONFIG)) == rounds
    assert list(replay(data, "random", 1, CONFIG)) != list(replay(data, "random", 2, CONFIG))


def test_a_budget_of_cost_is_spent_by_every_policy(data):
    config = CONFIG.model_copy(update={"by_cost": True})
    ends = {policy: list(replay(data, policy, 1, config))[-1] for policy in ("ours", "random", "lcb", "cheapest")}
    cost = dft_cost(data.atom_counts)
    known = np.random.default_rng(1).permutation(len(data))[: round(0.15 * len(data))]
    budget = 0.2 * (cost.sum() - cost[known].sum())
    for end in ends.values():
        assert budget - 3 * cost.max() < end.cost <= budget + 1e-6
    assert ends["cheapest"].evaluations > ends["ours"].evaluations > ends["random"].evaluations


def test_everything_spent_finds_everything(data):
    config = CONFIG.model_copy(update={"spend": 1.0, "rounds": 2})
    known = np.random.default_rng(4).permutation(len(data))[: round(0.15 * len(data))]
    last = list(replay(data, "ours", 4, config))[-1]
    assert last.found == data.stable.sum() - data.stable[known].sum()


def test_the_summary_gives_ratios_and_the_ceiling(data):
    rounds = [r for policy in ("ours", "random") for seed in range(2) for r in replay(data, policy, seed, CONFIG)]
    analysis = summarise(data, CONFIG.model_copy(update={"policies": ("ours", "random")}), rounds)
    rows = {row["policy"]: row for row in analysis.tables["policies"].to_pylist()}
    assert rows["random"]["ratio"] == pytest.approx(1.0)
    assert rows["ours"]["ratio"] == pytest.approx(rows["ours"]["found"] / rows["random"]["found"])
    assert rows["ours"]["ratio_deviation"] >= 0
    share = data.stable.mean()  # 1 / 0.2 would be the other bound
    assert analysis.summary["highest possible ratio to random"] == pytest.approx(min(1 / share, 1 / 0.2), abs=0.02)
    assert len(analysis.tables["curves"]) == 2 * 2 * 3


def test_distances_come_from_a_column_or_from_the_tables_own_hull():
    table = labelled(150)
    own = read_dataset(table)
    assert not own.learns_distance
    assert own.distance.min() >= -1e-7
    given = table.append_column("e_above_hull", pa.array(np.linspace(0, 1, 150)))
    data = read_dataset(given, distance="e_above_hull", stable_below=0.1)
    assert data.learns_distance
    assert data.stable.sum() == 15
    np.testing.assert_array_equal(data.label, np.linspace(0, 1, 150))


def test_unusable_rows_are_left_out_and_counted():
    rows = labelled(130).to_pylist()
    rows[0]["e_form_per_atom"] = None
    rows[1]["e_form_per_atom"] = -40.0
    rows[2]["composition"] = "Xx2O"
    rows[3]["composition"] = "Am1O2"  # beyond plutonium
    data = read_dataset(pa.Table.from_pylist(rows))
    assert (len(data), data.skipped) == (126, 4)
    with pytest.raises(ValueError, match="90 usable rows of 90"):
        read_dataset(labelled(90))
    with pytest.raises(ValueError, match="lacks the column energy"):
        read_dataset(labelled(130), label="energy")
    with pytest.raises(ValueError, match="or a composition or formula"):
        read_dataset(labelled(130).drop_columns(["composition"]))
    held = read_dataset(labelled(400), holdout=True)
    assert 0.05 < held.skipped / 400 < 0.3


def test_features_tell_ordered_crystals_of_one_composition_apart():
    perovskite = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    crystals = [Crystal(np.eye(3) * 4.0, perovskite, numbers) for numbers in ([38, 22, 8, 8, 8], [22, 38, 8, 8, 8])]
    counts = atom_counts([crystal.numbers for crystal in crystals])
    first, second = composition_features(counts)
    np.testing.assert_allclose(first, second)
    bonds = bond_features(crystals)
    assert np.abs(bonds[0] - bonds[1]).max() > 0.1
    np.testing.assert_allclose(bond_features([crystals[0].scaled_to_volume(90.0)])[0], bonds[0], atol=1e-9)
    assert np.isfinite(bond_features([rock_salt(3, 9), Crystal(np.eye(3) * 30, [[0, 0, 0]], [2])])).all()


def test_a_forests_spread_grows_away_from_what_it_knows():
    rng = np.random.default_rng(0)
    known = rng.uniform(-1, 1, (200, 3))
    median, iqr = forest_predictions(known, known.sum(axis=1), np.vstack([known[:50], known[:50] * 4]), seed=0)
    np.testing.assert_allclose(median[:50], known[:50].sum(axis=1), atol=0.3)
    assert iqr[50:].mean() > iqr[:50].mean()
