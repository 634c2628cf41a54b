"""What the cascade refines: what selection may want, by its own order."""

import shutil

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from apache_beam.testing.util import assert_that

from gnome_core.ensembles.config import CascadeConfig
from pipelines.beam import coders  # noqa: F401  registers the Arrow coders
from pipelines.beam.runners import DEFAULT_FLAGS
from pipelines.reading.schemas import SCORED_SCHEMA, SELECTED_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.config import SelectionConfig
from pipelines.stages.score import ToRefine
from pipelines.store.store import Store

# Screened candidates, each of a formula and system of its own but the last two; `c` failed the screen.
ROWS = {
    "digest": [b"a", b"b", b"c", b"d", b"e", b"f"],
    "formula": ["A", "B", "C", "D", "E", "E"],
    "chemsys": ["A", "B", "C", "D", "E", "E"],
    "e_above_hull": [0.00, 0.01, 0.09, 0.02, 0.03, 0.04],
    "iqr": [0.001, 0.002, 0.08, 0.03, 0.0, 0.0],
    "passed": [True, True, False, True, True, True],
}


@pytest.mark.parametrize(
    ("refine", "selection", "expected"),
    [
        (2, {"budget": 2}, "ab"),
        # The lowest bound comes first, also if the screen's median is out of reach.
        (2, {"budget": 2, "kappa": 1.0}, "ad"),
        (3, {"budget": 2, "kappa": 1.1}, "acd"),
        # The largest spreads within reach, beside the lowest.
        (2, {"budget": 2, "explore": 0.5}, "abc"),
        (2, {"budget": 4, "explore": 0.5}, "abcde"),
        # A budget of five can be spent, on one structure of a formula: there are four that passed.
        (2, {"budget": 5}, "abde"),
        (6, {"budget": 2, "explore": 0.5}, "abcdef"),
    ],
)
def test_what_is_refined_follows_the_settings_of_selection(refine, selection, expected):
    def check(batches) -> None:
        found = {digest for batch in batches for digest in batch["digest"].to_pylist()}
        assert b"".join(sorted(found)).decode() == expected

    settings = SelectionConfig(threshold=0.01, **selection)
    with beam.Pipeline(argv=list(DEFAULT_FLAGS)) as pipeline:
        rows = pipeline | beam.Create([pa.RecordBatch.from_pydict(ROWS)]).with_output_types(pa.RecordBatch)
        cascade = CascadeConfig(refine=refine, second_margin=0.04)
        assert_that((rows | ToRefine(cascade, settings)) | beam.Flatten(), check)


def test_a_budget_above_what_the_cascade_refines_is_spent(initialised, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    config = driver.load_round_config(store, 0)
    cascade = config.scoring.cascade.model_copy(update={"refine": 1, "first_margin": 9.0, "second_margin": 9.0})
    settings = {"budget": 6, "explore": 0.34, "random_baseline": 0, "threshold": 9.0, "kappa": 1.0}
    changed = config.model_copy(
        update={
            "scoring": config.scoring.model_copy(update={"cascade": cascade}),
            "selection": config.selection.model_copy(update=settings),
        }
    )
    round_ = driver.start_round(store, changed)
    list(driver.run_stages(store, round_, ["generate", "score", "select"]))
    scored = store.read_table(store.commit(1, "score"), "scored", SCORED_SCHEMA)
    chosen = store.read_table(store.commit(1, "select"), "selected", SELECTED_SCHEMA)
    assert len(chosen) == 6
    assert pc.sum(chosen["selected_to_explore"]).as_py() == 2
    assert pc.sum(scored["refined"]).as_py() < len(scored)
    assert np.asarray(chosen["refined"]).all()
