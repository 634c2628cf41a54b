"""Compositions searched with random structures, beside candidates made from parents, through a whole round."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dft.tables import RESULT_SCHEMA
from gnome_core.compositions.packed import parse_formulas
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.generation.config import RandomSearchConfig
from gnome_core.generation.enumeration import compositions, n_items
from gnome_core.generation.random_search import CODE, make_crystals, random_recipes
from gnome_core.generation.recipe import recipe_rows
from pipelines.errors import UserError
from pipelines.reading.committed import all_proposals, entries_until, hull_until
from pipelines.reading.members import member_addresses
from pipelines.reading.schemas import (
    CANDIDATE_SCHEMA,
    CONVERGENCE_SCHEMA,
    MEMBER_SCHEMA,
    PACKING_SCHEMA,
    PROPOSAL_SCHEMA,
    SCORED_SCHEMA,
    SELECTED_SCHEMA,
)
from pipelines.report.collect import collect
from pipelines.report.page import render
from pipelines.report.summary import search_hits
from pipelines.rounds import driver
from pipelines.rounds.config import RoundConfig, load_config
from pipelines.rounds.plan import stages_of
from pipelines.stages.searched_compositions import CompositionLabels, composition_labels, labels_used
from pipelines.store.store import Store
from tests.pipelines.conftest import digests, killed_at
from tools.soak import ROUND_TOML

STRUCTURES, LEAST = 3, 2
BOTH_TOML = (
    ROUND_TOML.replace("seed = 5", 'seed = 5\nframework = "both"').replace("fmax = 0.3", "fmax = 3.0")
    + f"""
[generation.compositions]
max_counts = [3]
[generation.random_search]
structures = {STRUCTURES}
max_sites = 4
max_formula_units = 1
[compositional]
members = 2
threshold = 10.0
budget = 3
random_baseline = 1
least_converged = {LEAST}
[compositional.model]
width = 8
steps = 1
[compositional.training]
first = "scratch"
epochs = 2
fine_tune_epochs = 1
"""
)


@pytest.mark.parametrize(("searched", "left"), [(99, 105), (100, 100)])
def test_searched_labels_alone_once_there_are_enough(searched, left):
    """The paper trains on these alone; a first round has none."""
    n = searched + 6
    order = np.random.default_rng(0).permutation(n)
    found = CompositionLabels([f"f{i}" for i in order], np.eye(95)[order % 95], 1.0 * order, order < searched, 3)
    assert labels_used(found, True) is found
    used = labels_used(found, False)
    assert len(used.formulas) == len(used.compositions) == len(used.e_form) == left
    assert used.too_few == 3
    for row, formula in enumerate(used.formulas):
        number = int(formula[1:])
        assert (used.e_form[row], used.compositions[row].argmax()) == (number, number % 95)
        assert left == n or number < searched


@pytest.fixture(scope="module")
def both(tiny, tmp_path_factory) -> Store:
    """A store after a round of both frameworks."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "both.toml").write_text(BOTH_TOML)
    config = load_config(str(folder / "both.toml")).model_copy(update={"snapshot": str(tiny / "snapshot.parquet")})
    store = driver.init_store(str(folder / "store"), config)
    list(driver.run_stages(store, 0, stages_of(0)))
    list(driver.run_stages(store, driver.start_round(store, None), stages_of(1)))
    return store


def read(store: Store, stage: str, table: str, schema: pa.Schema, round_: int = 1) -> pa.Table:
    return store.read_table(store.commit(round_, stage), table, schema)


def test_counts_add_up_and_a_chosen_composition_becomes_its_structures(both):
    commits = {stage: both.commit(1, stage) for stage in stages_of(1)}
    for commit in commits.values():
        assert commit.counts.n_in == commit.counts.n_out + commit.counts.n_rejected + commit.counts.n_dead, commit.key
    selected = read(both, "select", "selected", SELECTED_SCHEMA)
    searched = int((selected["generator"].to_numpy() == CODE).sum())
    assert 3 <= searched <= 4
    assert len(selected) - searched >= 3
    assert commits["emit"].counts.n_in == len(selected) - searched + STRUCTURES * searched
    packing = read(both, "emit", "packing", PACKING_SCHEMA).to_pylist()
    assert [row["begun"] for row in packing] == [STRUCTURES] * searched
    jobs = read(both, "emit", "jobs", PROPOSAL_SCHEMA)
    random = jobs.filter(pc.equal(jobs["generator"], CODE))
    per_formula = {row["formula"]: row["begun"] - row["failed"] for row in packing}
    found = dict(zip(*(c.to_pylist() for c in random["formula"].value_counts().flatten()), strict=True))
    assert found == {formula: n for formula, n in per_formula.items() if n}
    for earlier, later in (("generate", "score"), ("score", "select"), ("emit", "evaluate"), ("evaluate", "ingest")):
        assert commits[later].counts.n_in == commits[earlier].counts.n_out


def test_one_candidate_a_composition_scored_by_the_ensemble_over_compositions(both):
    candidates = read(both, "generate", "candidates", CANDIDATE_SCHEMA)
    compositions = candidates.filter(pc.equal(candidates["generator"], CODE))
    assert len(set(compositions["formula"].to_pylist())) == len(compositions) > 4
    scored = read(both, "score", "scored", SCORED_SCHEMA)
    scored = scored.filter(pc.equal(scored["generator"], CODE))
    assert sorted(scored["formula"].to_pylist()) == sorted(compositions["formula"].to_pylist())
    packed = parse_formulas(scored["formula"].to_pylist())
    counts = np.zeros((len(packed), 95), int)
    np.put_along_axis(counts, packed[:, :6].astype(int), packed[:, 6:], axis=1)
    counts[:, 0] = 0
    model = EnsembleModel.load(member_addresses(both, both.commit(0, "train"), "compositional"))
    expected = model.predict_compositions(counts).median
    np.testing.assert_allclose(scored["median"].to_numpy(), expected, atol=1e-5)
    hull = hull_until(both.root, 0)
    np.testing.assert_allclose(scored["e_above_hull"].to_numpy(), hull.e_above_hull(counts, expected), atol=1e-5)


def test_convergence_is_counted_and_labels_follow_the_rule(both):
    jobs = all_proposals(both, 1)
    random = dict(zip(jobs["id"].to_pylist(), jobs["formula"].to_pylist(), strict=True))
    random = {id_: random[id_] for id_ in jobs.filter(pc.equal(jobs["generator"], CODE))["id"].to_pylist()}
    results = read(both, "evaluate", "results", RESULT_SCHEMA)["id"].to_pylist()
    entries = read(both, "ingest", "entries", ENTRY_SCHEMA).to_pylist()
    convergence = {row["formula"]: row for row in read(both, "ingest", "convergence", CONVERGENCE_SCHEMA).to_pylist()}
    assert set(convergence) == set(random.values())
    for formula, row in convergence.items():
        own = [e["e_form_per_atom"] for e in entries if e["job"] in random and e["formula"] == formula]
        assert row["runs"] == sum(random.get(id_) == formula for id_ in results)
        assert row["converged"] == len(own)
        assert row["e_form_per_atom"] == (pytest.approx(min(own)) if own else None)
    metrics = both.commit(1, "train").metrics
    enough = {formula for formula, row in convergence.items() if row["converged"] >= LEAST}
    some = {formula for formula, row in convergence.items() if row["converged"]}
    assert metrics["compositions_below_least_converged"] == len(some - enough)
    members = read(both, "train", "members", MEMBER_SCHEMA).to_pylist()
    by_framework = {m["framework"]: m["n_train"] + m["n_val"] for m in members}
    assert by_framework["compositional"] == metrics["composition_labels"]
    others = [e for e in entries if e["job"] not in random]
    known = set(entries_until(both, 0)["formula"].to_pylist()) | {e["formula"] for e in others}
    assert metrics["composition_labels"] == len(known | enough)
    assert metrics["composition_labels_searched"] == len(enough - known) > 0


def test_labels_are_the_lowest_and_need_converged_runs():
    rows = [("LiSi", -0.1, "a"), ("LiSi", -0.3, "b"), ("Li2Si", -0.5, "c"), ("Li2Si", -0.2, None), ("Li", 0.0, None)]
    rows += [("Li3Si", -0.7, "d")]
    numbers = {"LiSi": [3, 14], "Li2Si": [3, 3, 14], "Li": [3, 3], "Li3Si": [3, 3, 3, 14]}
    entries = pa.table(
        {
            "formula": [formula for formula, _, _ in rows],
            "numbers": pa.array([numbers[formula] for formula, _, _ in rows], pa.list_(pa.uint8())),
            "e_form_per_atom": [energy for _, energy, _ in rows],
            "job": pa.array([job for _, _, job in rows], pa.string()),
        }
    )
    jobs = pa.table({"id": ["a", "b", "c", "d"], "generator": pa.array([CODE] * 3 + [1], pa.uint8())})
    labels = composition_labels(entries, jobs, 2)
    assert dict(zip(labels.formulas, labels.e_form.tolist(), strict=True)) == {
        "Li": 0.0,
        "Li2Si": -0.2,  # its one random structure is lower, but alone
        "Li3Si": -0.7,  # made from a parent
        "LiSi": -0.3,
    }
    assert dict(zip(labels.formulas, labels.searched.tolist(), strict=True))["LiSi"]
    assert labels.searched.sum() == 1
    assert labels.too_few == 1
    assert labels.compositions[labels.formulas.index("Li2Si"), [3, 14]].tolist() == [2, 1]
    assert "Li2Si" in composition_labels(entries, jobs, 1).formulas
    assert composition_labels(entries, jobs, 1).e_form[labels.formulas.index("Li2Si")] == -0.5


def test_the_report_shows_the_search(both):
    data = collect(both)
    assert all(stage.balanced for stage in data.stages)
    (searches,) = data.searches
    results = read(both, "ingest", "convergence", CONVERGENCE_SCHEMA)
    assert sum(searches.volume_runs) == pc.sum(results["runs"]).as_py()
    assert sum(searches.volume_converged) == pc.sum(results["converged"]).as_py()
    assert searches.labels == both.commit(1, "train").metrics["composition_labels"]
    formulas = [c.formula for c in searches.compositions]
    jobs = read(both, "emit", "jobs", PROPOSAL_SCHEMA)
    from_parents = int((jobs["generator"].to_numpy() != CODE).sum())
    assert len(data.jobs) == from_parents + len(formulas), "a searched composition is one candidate"
    evaluated = set(zip(data.jobs["formula"].to_pylist(), data.jobs["e_form"].to_pylist(), strict=True))
    assert {(c.formula, c.e_form) for c in searches.compositions} <= evaluated
    lowest = dict(zip(results["formula"].to_pylist(), results["e_form_per_atom"].to_pylist(), strict=True))
    assert {c.formula: c.e_form for c in searches.compositions} == lowest
    assert search_hits(searches, by_random=False).n + search_hits(searches, by_random=True).n >= len(formulas)
    page = render(data)
    assert 'id="random-search"' in page
    assert "search-volumes" in page


@pytest.mark.parametrize(("stage", "point"), [("emit", "after_write"), ("train", "before_write")])
def test_a_compositional_round_resumes_to_the_same_rows(both, tmp_path, monkeypatch, stage, point):
    shutil.copytree(both.root, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    shutil.rmtree(tmp_path / f"store/rounds/r0001/{stage}")
    with killed_at(monkeypatch, stage, point):
        list(driver.run_stages(store, 1, [stage]))
    list(driver.run_stages(store, 1, [stage]))
    assert digests(store) == digests(both)


def test_another_framework_on_a_store_says_what_to_do(initialised, tmp_path):
    shutil.copytree(initialised, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    config = driver.load_round_config(store, 0).model_copy(update={"framework": "compositional"})
    with pytest.raises(UserError, match="trained no compositional members"):
        driver.start_round(store, config)
    assert store.rounds() == [0]


def test_compositions_rich_in_one_element_are_reached():
    """Li15Si4, 19 atoms of the formula unit, passes the relaxed rule and the default limits, and can be packed."""
    config = RoundConfig.model_validate({"framework": "compositional"}).candidates()
    assert (config.generators, config.random_search.structures) == (("random_search",), 1)
    elements, wanted = (3, 14), parse_formulas(["Li15Si4"])
    batches = list(compositions(0, n_items(config.compositions, elements), config.compositions, elements))
    assert wanted[0].tolist() in np.concatenate(batches).tolist()
    crystals = make_crystals(recipe_rows(random_recipes(wanted, RandomSearchConfig(structures=4), 0)))
    assert any(np.bincount(crystal.numbers)[[3, 14]].tolist() == [15, 4] for crystal in crystals if crystal)
