"""The select stage with the options beyond the paper chooses what gnome_core's one-table function chooses."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gnome_core.generation.recipe import recipe_compositions
from gnome_core.selection.cost import dft_cost
from gnome_core.selection.selection import select
from pipelines.beam.runners import runner_flags
from pipelines.reading.committed import parent_table
from pipelines.reading.schemas import SCORED_SCHEMA, SELECTED_SCHEMA
from pipelines.rounds import driver
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
