"""The handlers through RunInference, and the cascade of a round against predicting everything in full."""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_to_arrays
from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.generation.generators import expand
from pipelines.beam.runners import DEFAULT_FLAGS
from pipelines.reading.committed import parent_table
from pipelines.reading.members import member_addresses
from pipelines.reading.schemas import SCORED_SCHEMA
from pipelines.stages.score_inference import JaxEnsembleHandler, ScreeningHandler
from pipelines.store.store import Store
from tests.gnome_core.ensembles.test_ensemble import random_crystal, write_member

CRYSTALS = [random_crystal(seed, 1 + seed % 5) for seed in range(12)]
BAD = Crystal(np.eye(3) * 5, [[np.nan, 0, 0]], [3])


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [str(write_member(folder / f"{k}.npz", k)) for k in range(4)]


def batch_of(crystals) -> pa.RecordBatch:
    arrays = crystals_to_arrays(crystals)
    columns = [pa.array([f"c{i}" for i in range(len(crystals))]), *(arrays[f.name] for f in CRYSTAL_FIELDS[1:])]
    batch = pa.RecordBatch.from_arrays(columns, names=[field.name for field in CRYSTAL_FIELDS])
    return batch.append_column("e_hull", pa.array(np.linspace(-8.0, 8.0, len(crystals))))


@pytest.fixture(scope="module")
def captured(paths):
    """Predictions of a batch whose sixth row is broken."""
    crystals = [*CRYSTALS[:5], BAD, *CRYSTALS[5:]]
    handler = JaxEnsembleHandler(paths, "median")
    (out,) = handler.run_inference(batch_of(crystals), handler.load_model())
    return out.to_pydict()


def test_one_broken_row_costs_no_other(captured, paths):
    whole = EnsembleModel.load(paths).predict(CRYSTALS, over_volumes="median")
    good = [row for row in range(13) if row != 5]
    np.testing.assert_allclose(np.array(captured["median"], float)[good], whole.median, atol=1e-5)
    np.testing.assert_allclose(np.array(captured["iqr"], float)[good], whole.iqr, atol=1e-5)
    assert captured["id"] == [f"c{i}" for i in range(13)], "order is kept"
    assert [row for row in range(13) if captured["error"][row]] == [5]
    assert captured["median"][5] is None
    assert {captured["evaluations"][row] for row in good} == {80}


def test_screened_rows_carry_the_verdict(paths):
    config = CascadeConfig(first_margin=0.1, second_members=3)
    handler = ScreeningHandler(paths, 0.05, config)
    model = handler.load_model()
    (out,) = handler.run_inference(batch_of(CRYSTALS), model)
    out = out.to_pydict()
    assert set(out["evaluations"]) == {1, 3}
    assert 0 < sum(out["passed"]) < 12
    again = JaxEnsembleHandler(paths)
    (refined,) = again.run_inference(batch_of(CRYSTALS).append_column("evaluations", pa.array([3] * 12)), model.members)
    assert set(refined["evaluations"].to_pylist()) == {83}


def test_the_handlers_run_in_beam(paths):
    batch = batch_of(CRYSTALS)
    expected = EnsembleModel.load(paths).predict(CRYSTALS).median

    def check(batches):
        (out,) = batches
        np.testing.assert_allclose(out["median"].to_numpy(), expected, atol=1e-5)

    with beam.Pipeline(argv=list(DEFAULT_FLAGS)) as pipeline:
        assert_that(pipeline | beam.Create([batch]) | RunInference(JaxEnsembleHandler(paths)), check)


def test_a_round_scores_all_candidates_and_the_chosen_ones_in_full(two_rounds):
    store = Store(str(two_rounds))
    scored = store.read_table(store.commit(1, "score"), "scored", SCORED_SCHEMA)
    assert len(scored) == store.commit(1, "generate").counts.n_out
    members = member_addresses(store, store.commit(0, "train"))
    full = EnsembleModel.load(members).predict(expand(scored, parent_table(store.root, 0)), over_volumes="median")
    evaluations, refined = scored["evaluations"].to_numpy(), scored["refined"].to_numpy()
    assert 0 < refined.sum() < len(scored)
    assert set(evaluations[~refined]) <= {1, 2}
    assert set(evaluations[refined]) <= {41, 42}
    np.testing.assert_allclose(scored["median"].to_numpy()[refined], full.median[refined], atol=1e-5)
    chosen = store.read_table(store.commit(1, "select"), "selected", SCORED_SCHEMA)
    assert chosen["refined"].to_numpy().all(), "what is chosen, also by chance, was predicted in full"
    assert store.commit(1, "score").metrics["evaluations"] == evaluations.sum()
