"""Rounds that train potentials: on which frames, from what, flagged by whom, used by name; and killed in between."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from dft.evaluators.make import make_evaluator
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.readers import SCALE, read_snapshot
from gnome_core.crystals.split import is_train
from gnome_core.potentials.committee import Committee
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.training.potential import loop
from pipelines.cli.app import app
from pipelines.cli.documents import status_document
from pipelines.cli.potential_text import planned, potential_line
from pipelines.errors import UserError
from pipelines.evaluation import pre_relax as pre_relaxing
from pipelines.reading.frames import frames_until
from pipelines.reading.potentials import potential_of_store, trained_potentials
from pipelines.reading.schemas import FLAGGED_SCHEMA, POTENTIAL_SCHEMA
from pipelines.report.collect import collect
from pipelines.report.page import render
from pipelines.rounds import driver
from pipelines.rounds.config import RoundConfig, load_config, load_round_config, parse_config, settled
from pipelines.rounds.plan import inputs_of, stages_of
from pipelines.rounds.toml import parse_settings
from pipelines.rounds.verify import verify
from pipelines.stages import train_potentials
from pipelines.store.records import Attempt, table_files
from pipelines.store.store import Store
from tests.pipelines.cli.json_page import check

pytestmark = pytest.mark.usefixtures("quickly_compiled")
POTENTIAL = {
    "members": 2,
    "start": "scratch",
    "fine_tune_epochs": 1,
    "flag_above": 0.0,
    "flag_most": 3,
    "model": {"layers": 1, "hidden_irreps": "8x0e+4x1o", "edge_irreps": "0e+1o", "cutoff": 4.0, "radial_width": 16},
    "training": {"epochs": 2, "batch_size": 4, "validate_every": 2, "checkpoint_every": 2},
}


def settings(store: Store, pre_relax: str | None = "potential:newest", **potential) -> RoundConfig:
    """The newest round's settings with potentials."""
    document = load_round_config(store, store.rounds()[-1]).document()
    document["training"]["potential"] = True
    document["potential"] = POTENTIAL | potential
    document["evaluation"]["pre_relax"] = pre_relax
    return parse_config(document, "test")


def run_round(store: Store, config: RoundConfig) -> None:
    round_ = driver.start_round(store, config)
    list(driver.run_stages(store, round_, stages_of(round_)))


@pytest.fixture(scope="module")
def begun(tiny, tmp_path_factory) -> Store:
    """A store of a labelled snapshot, whose round 0 has no frame to train a potential on."""
    values = load_config(str(tiny / "round.toml")).document() | {"snapshot": str(tiny / "snapshot.parquet")}
    values["training"]["potential"] = True
    store = driver.init_store(str(tmp_path_factory.mktemp("begun") / "store"), parse_config(values, "test"))
    list(driver.run_stages(store, 0, stages_of(0)))
    return store


@pytest.fixture(scope="module")
def trained(begun, tmp_path_factory) -> Store:
    """The same after a first round, which has trained potentials."""
    store = Store(str(shutil.copytree(begun.root, tmp_path_factory.mktemp("potentials") / "store")))
    assert list(planned(store, 1, settings(store))) == [
        "emit leaves candidates as proposed: potential:newest is none yet",
        "train also trains 2 potentials from nothing, on the frames of rounds 0 to 1",
    ]
    run_round(store, settings(store))
    return store


@pytest.fixture(scope="module")
def tuned(trained, tmp_path_factory) -> tuple[Store, list[str]]:
    """The same after a second round that goes on from its potentials, and what that relaxed candidates by."""
    store = Store(str(shutil.copytree(trained.root, tmp_path_factory.mktemp("tuned") / "store")))
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        make = pre_relaxing.evaluator_of_process
        patch.setattr(pre_relaxing, "evaluator_of_process", lambda name, *rest: asked.append(name) or make(name, *rest))
        config = settings(store, start="fine_tune")
        # Forces of a network that has hardly learned are small: it is to move atoms all the same.
        evaluation = config.evaluation.model_copy(update={"fmax": 1e-3})
        run_round(store, config.model_copy(update={"evaluation": evaluation}))
    return store, asked


def potentials(store: Store, round_: int) -> list[dict]:
    return store.read_table(store.commit(round_, "train"), "potentials", POTENTIAL_SCHEMA).to_pylist()


def test_a_committee_is_trained_on_the_frames_and_committed(trained):
    assert list(verify(trained)) == []
    commit, rows, frames = trained.commit(1, "train"), potentials(trained, 1), frames_until(trained, 1)
    assert [row["name"] for row in rows] == ["potential-000", "potential-001"]
    assert len({row["weights"] for row in rows}) == 2
    assert commit.counts.n_in == commit.counts.n_out == commit.rows("members") + len(rows)
    assert commit.metrics["frames"] == commit.metrics["frames_scored"] == len(frames) > 5
    trains = [is_train(crystal.reduced_formula) for crystal in _structures(frames)]
    for row in rows:
        assert (row["n_train"], row["n_val"]) == (sum(trains), len(trains) - sum(trains))
        assert row["start"] == "scratch"
        assert row["epochs"] == 2
        assert row["force_mae"] > 0
    records = [stat for stat in table_files(commit, "potential_weights") if stat.path.endswith(".json")]
    for stat in records:
        text = trained.read_file(stat).decode()
        record = json.loads(text)
        assert trained.root not in text
        assert record["scale"] == SCALE
        assert set(record["config"]["elements"]) == {3, 12, 29}, "those of the store"
        assert record["origin"] == f"{len(frames)} frames of rounds 0 to 1"


def _structures(frames):
    from gnome_core.crystals.convert import to_structure

    return [to_structure(crystal).composition for crystal in crystals_from_batch(frames)]


def test_the_frames_that_the_committee_disagrees_on_are_flagged_once_a_relaxation(trained, tmp_path):
    flagged = trained.read_table(trained.commit(1, "train"), "flagged", FLAGGED_SCHEMA)
    frames = frames_until(trained, 1)
    committee = Committee([TrainedPotential.load(path) for path in trained_potentials(trained, 2).addresses])
    spread: dict[str, tuple[float, int]] = {}
    answers = committee.evaluate_with_spread(list(crystals_from_batch(frames)))
    for job, step, (_, forces) in zip(*(frames[c].to_pylist() for c in ("job", "step")), answers, strict=True):
        spread[job] = max(spread.get(job, (0.0, 0)), (float(forces.max()), step))
    worst = sorted(((value, step, job) for job, (value, step) in spread.items()), reverse=True)[:3]
    found = sorted(zip(*(flagged[c].to_pylist() for c in ("force_spread", "step", "job")), strict=True), reverse=True)
    assert [row[1:] for row in found] == [row[1:] for row in worst]
    np.testing.assert_allclose([row[0] for row in found], [row[0] for row in worst], rtol=1e-3)
    out = tmp_path / "flagged.parquet"
    said = CliRunner().invoke(app, ["potential", "flagged", trained.root, "-o", str(out)])
    assert "3 frames that round 1 flagged" in said.output
    read = list(read_snapshot(str(out)))
    assert [entry.id for entry in read] == [f"{job}-{step}" for _, step, job in worst]
    assert read[0].crystal.n_sites == len(flagged.sort_by("force_spread")["numbers"][-1])


def test_status_and_report_tell_of_them(trained):
    rows, said = potentials(trained, 1), potential_line(trained, trained.commit(1, "train"))
    assert f"2 potentials from nothing, {rows[0]['n_train']} frames: {1e3 * rows[0]['energy_mae']:.1f} meV/atom" in said
    assert "3 frames flagged" in said
    document = status_document(trained)
    check("round status STORE", document)
    assert document["rounds"][0]["potentials"] is None
    assert document["rounds"][1]["potentials"]["flagged"] == 3
    assert document["rounds"][1]["potentials"]["members"][1]["force_mae"] == rows[1]["force_mae"]
    assert "frames on which the committee disagrees" in render(collect(trained))


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_bits(trained, tmp_path, monkeypatch):
    store = Store(str(shutil.copytree(trained.root, tmp_path / "store")))
    shutil.rmtree(tmp_path / "store/rounds/r0001/train")
    (tmp_path / "store/rounds/r0001/ROUND.json").unlink()
    steps, step, end = [], loop.train_step, 5

    def counted(*arguments):
        if len(steps) == end:
            raise RuntimeError("killed here")
        steps.append(int(arguments[7]))
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    with pytest.raises(RuntimeError, match="killed here"):
        list(driver.run_stages(store, 1, ["train"]))
    assert steps == [0, 1, 2, 3, 4]
    assert store.commit(1, "train") is None
    steps, end = [], None
    list(driver.run_stages(store, 1, ["train"]))
    begun = [now for before, now in pairwise([-9, *steps]) if now != before + 1]
    assert begun == [4, 0], "one goes on from its checkpoint of every second step, the other begins"
    assert store.commit(1, "train").digest == trained.commit(1, "train").digest


def test_the_next_round_relaxes_by_the_newest_and_trains_it_on(tuned):
    store, asked = tuned
    assert list(verify(store)) == []
    assert "pre_relaxed" not in store.commit(1, "emit").metrics, "there was none"
    assert store.commit(2, "emit").metrics["pre_relaxed"] > 0
    first, second = trained_potentials(store, 2), trained_potentials(store, 3)
    assert (first.round, second.round) == (1, 2)
    assert set(asked) == {f"potential:{first.addresses[0]}"}
    rows = potentials(store, 2)
    assert [row["start"] for row in rows] == ["round 1"] * 2
    assert {row["epochs"] for row in rows} == {1}
    assert rows[0]["n_train"] > potentials(store, 1)[0]["n_train"], "all rounds' frames"
    assert f"of round 2: {second.addresses[0]}" in next(planned(store, 3, settings(store)))


def test_another_store_evaluates_by_what_this_one_trained(trained, tuned):
    """A retrained potential changes every job and the scale."""
    made = []
    for root in (trained.root, tuned[0].root):
        config = settled(parse_config({"evaluation": {"evaluator": f"potential:{root}"}}, "test"))
        assert config.evaluation.evaluator == f"potential:{potential_of_store(root)}"
        made.append(make_evaluator(config.evaluation.evaluator, RelaxConfig()))
    assert made[0].scale != made[1].scale
    assert made[0].protocol["potential"] != made[1].protocol["potential"]


def job(store: Store, **potential) -> driver.Job:
    """The train stage of the first round, as if it ran now."""
    inputs = {commit.key: commit for key in inputs_of(1, "train") if (commit := store.commit(*key))}
    return driver.Job(store, 1, settings(store, **potential), inputs, Attempt(1, "train", "test"), ())


def test_the_first_potentials_start_from_the_shipped_one_where_it_knows_the_elements(trained):
    asked = job(trained, start="fine_tune", members=3)
    assert {task.start.said for task in train_potentials.potential_tasks(asked)} == {"pretrained"}
    assert len({task.seed for task in train_potentials.potential_tasks(asked)}) == 3
    assert train_potentials._starts(asked, (3, 92)) == [train_potentials.Start(None, "scratch")]


def test_withheld_systems_and_strong_forces_are_left_out_and_counted(trained, monkeypatch):
    frames = frames_until(trained, 1)
    systems = ["-".join(sorted(str(e) for e in found)) for found in _structures(frames)]
    withheld = max(set(systems), key=systems.count)
    monkeypatch.setattr(train_potentials, "is_withheld", lambda system: system == withheld)
    largest = np.array([np.abs(forces).max() for forces in frames["forces"].to_pylist()])
    limit = float(np.median(largest))
    data = train_potentials.training_frames(trained.root, 1, True, limit)
    others = np.array(systems) != withheld
    assert data.counts == {
        "frames": int((others & (largest <= limit)).sum()),
        "frames_withheld": int((~others).sum()),
        "frames_above_max_force": int((others & (largest > limit)).sum()),
        "frames_without_correction": 0,
    }
    assert sum(data.counts.values()) == len(frames)
    assert train_potentials.training_frames(trained.root, 1, True, 0.0).frames is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"evaluation": {"evaluator": "potential:newest"}}, "an energy scale of its own"),
        ({"confirm": {"by": "potential:newest"}}, "an energy scale of its own"),
        ({"potential": {"training": {"val_fraction": 0.2}}}, "potential.training.val_fraction = 0.2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        parse_config(values, "test")


def test_a_name_for_what_nobody_trains_is_refused_before_the_round_starts(begun):
    assert begun.commit(0, "train").metrics["frames"] == 0
    assert potentials(begun, 0) == []
    document = load_round_config(begun, 0).document()
    document["training"]["potential"] = False
    document["evaluation"]["pre_relax"] = "potential:newest"
    with pytest.raises(UserError, match=r"training\.potential = true"):
        driver.start_round(begun, parse_config(document, "test"))
    assert begun.rounds() == [0]
    with pytest.raises(UserError, match="has trained no potential"):
        settled(parse_config({"evaluation": {"pre_relax": f"potential:{begun.root}"}}, "test"))


def test_settings_of_a_store_without_the_keys_are_those_without_potentials(begun):
    document = load_round_config(begun, 0).document()
    del document["potential"], document["training"]["potential"]
    config = parse_settings(RoundConfig, document, "test")
    assert not config.training.potential
    assert config.potential == RoundConfig().potential
