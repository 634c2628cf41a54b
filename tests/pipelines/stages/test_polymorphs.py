"""A round that looks for ground states: more structures of what the models chose, each of them counted."""

import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gnome_core.generation.generators import expand
from gnome_core.generation.recipe import NO_PARENT
from gnome_core.matching.clusters import distinct_structures
from pipelines.beam.runners import runner_flags
from pipelines.reading.committed import parent_table, proposals
from pipelines.reading.schemas import SELECTED_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.job import Job
from pipelines.rounds.plan import PROPOSE, inputs_of
from pipelines.stages import select
from pipelines.store.records import Attempt
from pipelines.store.store import Store

CHOICES = ("selected_by_model", "selected_by_random", "selected_to_explore")


@pytest.fixture(scope="module")
def searched(initialised, tmp_path_factory):
    """A store in whose round 1 polymorphs are proposed."""
    path = tmp_path_factory.mktemp("searched") / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    config = driver.load_round_config(store, 0)
    selection = config.selection.model_copy(update={"polymorphs": 2, "random_polymorphs": 1})
    driver.start_round(store, config.model_copy(update={"selection": selection}))
    for _ in driver.run_stages(store, 1, PROPOSE):
        pass
    return store


@pytest.fixture(scope="module")
def selected(searched):
    return searched.read_table(searched.commit(1, "select"), "selected", SELECTED_SCHEMA).combine_chunks()


def chosen(table: pa.Table) -> pa.Array:
    by_model, by_random, to_explore = (table[name] for name in CHOICES)
    return pc.or_(pc.or_(by_model, by_random), to_explore)


def test_every_row_is_counted(searched):
    commits = {stage: searched.commit(1, stage) for stage in PROPOSE}
    for commit in commits.values():
        assert commit.counts.n_in == commit.counts.n_out + commit.counts.n_rejected + commit.counts.n_dead, commit.key
    counts = commits["select"].counts
    assert counts.n_in > commits["score"].counts.n_out  # recipes of the chosen compositions besides
    assert counts.rejected["same_structure"] > 0  # the chosen ones' own recipes among them
    assert commits["emit"].counts.n_in == counts.n_out


def test_what_is_chosen_is_what_a_round_without_them_chooses(searched, selected):
    inputs = {key: searched.commit(*key) for key in inputs_of(1, "select")}
    commits = {commit.key: commit for commit in inputs.values()}
    config = driver.load_round_config(searched, 0)
    manifest = select.run(Job(searched, 1, config, commits, Attempt(1, "select", "plain"), runner_flags([])))
    (expected,) = (searched.open_parquet(stat).read() for stat in manifest.files if stat.table == "selected")
    assert selected.filter(chosen(selected)).to_pylist() == expected.cast(SELECTED_SCHEMA).to_pylist()


def test_polymorphs_are_other_structures_of_what_the_models_chose(searched, selected):
    others = selected.filter(pc.invert(chosen(selected)))
    by_model = selected.filter(selected["selected_by_model"])
    assert set(others["formula"].to_pylist()) <= set(by_model["formula"].to_pylist())
    random = pc.equal(others["parent"], NO_PARENT)
    for rows, most in ((others.filter(pc.invert(random)), 2), (others.filter(random), 1)):
        assert 0 < max(Counter(rows["formula"].to_pylist()).values()) <= most
    parents = parent_table(searched.root, 0)
    for formula in set(others["formula"].to_pylist()):
        own = selected.filter(pc.and_(pc.equal(selected["formula"], formula), pc.less(selected["parent"], NO_PARENT)))
        labels = distinct_structures(expand(own, parents))
        assert len(set(labels.tolist())) == len(own), formula
    assert np.asarray(others["refined"]).all()
    assert (others["estimated_cost"].to_numpy() > 0).all()


def test_they_become_jobs_of_their_own(searched, selected):
    jobs = proposals(searched.root, 1)
    assert len(jobs) == searched.commit(1, "emit").counts.n_out > pc.sum(chosen(selected)).as_py()
    assert set(jobs["digest"].to_pylist()) <= set(selected["digest"].to_pylist())
