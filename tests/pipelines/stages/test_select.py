"""The select stage with the options beyond the paper chooses what gnome_core's one-table function chooses."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gnome_core.generation.recipe import recipe_compositions
from gnome_core.selection.cost import dft_cost
from gnome_core.selection.selection import select
from gnome_core.stability.chance import Calibration, calibrations
from pipelines.beam.runners import runner_flags
from pipelines.errors import UserError
from pipelines.reading.committed import parent_table
from pipelines.reading.schemas import SCORED_SCHEMA, SELECTED_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.config import SelectionConfig
from pipelines.rounds.plan import inputs_of
from pipelines.stages import select as select_stage
from pipelines.store.records import Attempt
from pipelines.store.store import Store


@pytest.fixture(scope="module")
def scored(initialised, tmp_path_factory):
    """A store whose round 1 has been scored."""
    path = tmp_path_factory.mktemp("scored") / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    driver.start_round(store, driver.load_round_config(store, 0))
    for _ in driver.run_stages(store, 1, ["generate", "score"]):
        pass
    return store


@pytest.mark.parametrize(
    "options",
    [
        {"kappa": 0.5, "budget": 6, "per_chemsys": 2},
        {"explore": 0.4, "budget": 5},
        {"cost_budget": 40.0, "budget": 50, "by_cost": True, "explore": 0.3},
        {"budget": 0},
    ],
)
def test_options_beyond_the_paper(scored, options):
    config = driver.load_round_config(scored, 1)
    selection = config.selection.model_copy(update=options)
    inputs = {key: scored.commit(*key) for key in inputs_of(1, "select")}
    attempt = Attempt(1, "select", "-".join(options))
    job = driver.Job(
        scored,
        1,
        config.model_copy(update={"selection": selection}),
        {commit.key: commit for commit in inputs.values()},
        attempt,
        runner_flags([]),
    )
    manifest = select_stage.run(job)
    manifest.counts.check("select")
    tables = [scored.open_parquet(stat).read() for stat in manifest.files if stat.table == "selected"]
    chosen = pa.concat_tables([SELECTED_SCHEMA.empty_table(), *tables])

    every = scored.read_table(scored.commit(1, "score"), "scored", SCORED_SCHEMA).combine_chunks()
    rows = every.filter(every["refined"])
    cost = dft_cost(recipe_compositions(rows, parent_table(scored.root, 0)))
    digests = [digest.hex() for digest in rows["digest"].to_pylist()]
    expected = select(
        rows["formula"],
        rows["chemsys"],
        digests,
        rows["e_above_hull"].to_numpy(),
        rows["iqr"].to_numpy(),
        budget=selection.budget,
        threshold=selection.threshold,
        per_composition=selection.per_formula,
        max_per_chemsys=selection.per_chemsys,
        kappa=selection.kappa,
        explore=selection.explore,
        cost=cost,
        cost_budget=selection.cost_budget or np.inf,
        by_cost=selection.by_cost,
    )
    explored = {digests[row] for row in expected.explored}
    exploited = {digests[row] for row in expected.selected} - explored
    assert manifest.counts.n_in == len(every)
    for column, digests_of in (("selected_by_model", exploited), ("selected_to_explore", explored)):
        assert {digest.hex() for digest in chosen.filter(chosen[column])["digest"].to_pylist()} == digests_of
    assert pc.sum(chosen["selected_by_random"]).as_py() == selection.random_baseline
    assert len(explored) == round(selection.explore * selection.budget) or selection.cost_budget
    if selection.cost_budget:
        spent = chosen.filter(pc.or_(chosen["selected_by_model"], chosen["selected_to_explore"]))
        assert 0 < pc.sum(spent["estimated_cost"]).as_py() <= selection.cost_budget


def ranked(settings: SelectionConfig, calibration: Calibration | None) -> list[str]:
    """Candidates by what they compete by: of one distance or another, sure or unsure, and dear or cheap."""
    batch = pa.RecordBatch.from_pydict(
        {
            "digest": ["sure", "unsure", "lower", "above", "cheap"],
            "e_above_hull": [-0.01, -0.01, -0.02, 0.04, 0.0],
            "iqr": [0.001, 0.2, 0.2, 0.001, 0.001],
            "estimated_cost": [1.0, 1.0, 1.0, 1.0, 0.25],
            "refined": [True] * 5,
        }
    )
    found = list(select_stage.RankAndThreshold(settings, calibration).process(batch, [], []))
    (kept,) = [rows for rows in found if isinstance(rows, pa.RecordBatch)]
    return [kept["digest"][int(row)].as_py() for row in np.argsort(kept["rank"].to_numpy(), kind="stable")]


def test_ranked_by_the_chance_to_be_truly_stable():
    settings, judge = SelectionConfig(rank="probability"), Calibration(0.0, 0.01)
    assert ranked(SelectionConfig(), None)[0] == "lower"
    assert ranked(settings, judge) == ["sure", "lower", "unsure", "cheap", "above"]
    assert ranked(settings.model_copy(update={"by_cost": True}), judge)[0] == "cheap"


def test_ranking_by_chance_takes_a_judge_that_is_calibrated():
    settings = SelectionConfig(rank="probability")
    assert select_stage.calibration_of(settings, "chgnet-0.3.0") == calibrations("own")["chgnet-0.3.0"]
    assert select_stage.calibration_of(SelectionConfig(), "emt") is None
    with pytest.raises(UserError, match=r"no judge on emt is calibrated; those on chgnet-0\.3\.0"):
        select_stage.calibration_of(settings, "emt")
