"""Chosen candidates relaxed by a cheap potential before they become jobs."""

import shutil

import numpy as np
import pytest

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.generators import expand
from gnome_core.potentials.config import RelaxConfig
from pipelines.evaluation.pre_relax import pre_relax
from pipelines.reading.committed import parent_table, proposals
from pipelines.rounds import driver
from pipelines.rounds.config import EvaluationConfig
from pipelines.store.store import Store

MGO = Crystal(2.0 * (1 - np.eye(3)), [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])
XENON = Crystal(np.eye(3) * 6.0, np.zeros((1, 3)), [54])


def test_crystals_are_relaxed_in_order_and_unknown_ones_left():
    first, unknown, last = pre_relax([MGO, XENON, MGO], "potential:pretrained", RelaxConfig(fmax=0.1, max_steps=60))
    assert unknown is XENON
    assert first.volume == pytest.approx(last.volume) != pytest.approx(MGO.volume)
    assert first.volume == pytest.approx(18.8, rel=0.1)  # Å^3, of MgO


def test_one_that_collapses_stays_as_it_was():
    sparse = Crystal(MGO.lattice * 1.6, MGO.frac_coords, MGO.numbers)
    (kept,) = pre_relax([sparse], "embedded", RelaxConfig(max_steps=200, max_volume_ratio=1.2))
    assert kept is sparse


def test_jobs_of_a_round_start_relaxed_and_are_the_same_twice(two_rounds, tmp_path):
    config = driver.load_round_config(Store(str(two_rounds)), 2)
    evaluation = config.evaluation.model_copy(update={"pre_relax": "embedded"})
    made = []
    for name in ("one", "two"):
        store = Store(str(shutil.copytree(two_rounds, tmp_path / name)))
        round_ = driver.start_round(store, config.model_copy(update={"evaluation": evaluation}))
        list(driver.run_stages(store, round_, ["generate", "score", "select", "emit"]))
        emitted = store.commit(round_, "emit")
        made.append(emitted.rows_digests)
        assert 0 < emitted.metrics["pre_relaxed"] <= emitted.counts.n_in
    assert made[0] == made[1]
    jobs = proposals(store.root, round_)
    recipes = expand(jobs.to_batches()[0], parent_table(store.root, round_ - 1))
    pairs = zip(crystals_from_batch(jobs), recipes, strict=True)
    moved = sum(job.volume != pytest.approx(proposed.volume) for job, proposed in pairs)
    assert moved == emitted.metrics["pre_relaxed"]


@pytest.mark.parametrize("name", ["espresso", "label:embedded", "steps:embedded", "mlip"])
def test_what_cannot_relax_in_a_worker_is_refused(name):
    with pytest.raises(ValueError, match=name):
        EvaluationConfig(pre_relax=name)
