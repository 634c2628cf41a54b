import json
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.featurize import structural_graphs
from gnome_core.models.config import StructuralConfig
from gnome_core.models.members import load_member
from gnome_core.training import checkpoint
from gnome_core.training.epochs import TrainingDiverged
from gnome_core.training.members import loop
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.members.loop import train_members
from tests.gnome_core.training.two_devices import run_on_two_devices

MODEL = StructuralConfig(width=8, steps=1)
# One training of them all is compiled; a checkpoint takes as long as a hundred steps.
TRAINING = TrainingConfig(epochs=6, volume_jitter=0.0, batch_size=8, checkpoint_every=7, validate_every=2)
LONG = TRAINING.model_copy(update={"epochs": 40, "checkpoint_every": 500})
pytestmark = pytest.mark.usefixtures("quickly_compiled")


def rocksalt_like():
    """Rocksalt-like cells whose energy is a smooth function of elements and size."""
    rng = np.random.default_rng(0)
    crystals, labels = [], []
    for _ in range(60):
        metal, anion = rng.choice([3, 11, 12, 19, 20]), rng.choice([8, 9, 16, 17])
        half = rng.uniform(2.0, 2.6)
        lattice = half * (np.ones((3, 3)) - np.eye(3))
        crystals.append(Crystal(lattice, [[0, 0, 0], [0.5, 0.5, 0.5]], [metal, anion]))
        labels.append(-0.1 * anion + 0.05 * metal + half)
    return structural_graphs(crystals), np.array(labels), np.arange(60) < 48


@pytest.fixture(scope="module")
def labelled():
    return rocksalt_like()


def train(labelled, out_dir, training=TRAINING, member=0, init_from=None, progress=None, **kwargs):
    """One member; progress gets its rows."""
    kwargs = {"seed": 7, "model": MODEL} | kwargs
    (result,) = train_members(
        *labelled,
        members=[member],
        out_dir=out_dir,
        training=training,
        init_from=[init_from],
        progress=None if progress is None else lambda _, row: progress(row),
        **kwargs,
    )
    return result


@pytest.fixture(scope="module")
def whole(labelled, tmp_path_factory):
    """Member 0 after an undisturbed training."""
    return train(labelled, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def long(labelled, tmp_path_factory):
    """Member 0 after enough epochs to have learnt, and the rows of its progress."""
    rows = []
    return train(labelled, tmp_path_factory.mktemp("long"), LONG, progress=rows.append), rows


def arrays(path):
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


class Interrupted(Exception):
    pass


def test_learns_and_exports(labelled, long):
    result, rows = long
    assert rows == result.curve
    assert result.val_mae < 0.5 * np.abs(labelled[1] - labelled[1].mean()).mean()
    variables, record = load_member(result.path)
    graphs = labelled[0]
    assert record.elements == np.unique(graphs.numbers[: graphs.node_offsets[48]]).tolist()
    assert record.shift == pytest.approx(labelled[1][:48].mean(), rel=1e-6)
    assert record.network().config == MODEL
    assert variables["params"]["embedding"]["elements"].dtype == np.float32


def steps_of(path):
    """How many steps a run took, by the checkpoints it made."""
    return sorted(int(folder.name) for folder in path.glob("checkpoints/*/[0-9]*"))


@pytest.mark.parametrize("stop_at", [3, 4])
def test_resume_is_bit_equal_from_the_middle_of_an_epoch(labelled, whole, tmp_path, stop_at, monkeypatch):
    def stop(row):
        if row["epoch"] == stop_at:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(labelled, tmp_path / "cut", progress=stop)
    (newest,) = steps_of(tmp_path / "cut")
    taken = []
    real = loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *args: taken.append(1) or real(*args))
    epochs = []
    resumed = train(labelled, tmp_path / "cut", progress=lambda row: epochs.append(row["epoch"]))
    assert arrays(resumed.path) == arrays(whole.path)
    assert resumed.curve == whole.curve
    # It went on from the newest checkpoint, a multiple of 7 steps and not of an epoch's.
    per_epoch = (newest + len(taken)) / TRAINING.epochs
    assert newest == 7 * (stop_at * per_epoch // 7)
    assert newest % per_epoch
    assert epochs[0] == newest // per_epoch + 1


def test_what_an_older_version_left_half_written_does_not_stop_a_training(labelled, whole, tmp_path, monkeypatch):
    """Versions before wrote the position beside the state, in place: a kill could leave half of it."""

    def stop(row):
        if row["epoch"] == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(labelled, tmp_path / "cut", progress=stop)
    (folder,) = (tmp_path / "cut" / "checkpoints").iterdir()
    shutil.rmtree(folder)
    with ocp.CheckpointManager(folder) as manager:
        manager.save(10, args=ocp.args.StandardSave({"params": np.zeros(3)}))
    folder.with_suffix(".json").write_text('{"10": {"epoch": 1, "st')
    epochs, told = [], []
    monkeypatch.setattr(checkpoint.log, "warning", lambda text, *values: told.append(text % values))
    again = train(labelled, tmp_path / "cut", progress=lambda row: epochs.append(row["epoch"]))
    assert epochs[0] == 1
    assert any("starts anew" in text for text in told)
    assert arrays(again.path) == arrays(whole.path)


def test_a_member_replaced_under_its_name_is_another_start(labelled, whole, long, tmp_path):
    short = TRAINING.model_copy(update={"epochs": 2, "learning_rate": 1e-4})
    base = tmp_path / "base.npz"

    def tuned_from(member, out_dir):
        for suffix in (".npz", ".json"):
            shutil.copy(Path(member.path).with_suffix(suffix), base.with_suffix(suffix))
        return train(labelled, tmp_path / out_dir, short, init_from=base)

    expected = tuned_from(long[0], "expected")
    tuned_from(whole, "tuned")
    again = tuned_from(long[0], "tuned")
    assert arrays(again.path) == arrays(expected.path)


def test_members_side_by_side_are_those_trained_alone(labelled, whole, tmp_path):
    alone = [whole, train(labelled, tmp_path / "alone", member=3)]
    rows = []
    together = train_members(
        *labelled,
        members=[0, 3],
        seed=7,
        model=MODEL,
        training=TRAINING,
        out_dir=tmp_path / "together",
        progress=lambda member, row: rows.append((member, row["epoch"])),
    )
    assert [result.member for result in together] == [0, 3]
    assert rows[:3] == [(0, 1), (3, 1), (0, 2)]
    for one, other in zip(alone, together, strict=True):
        with np.load(one.path) as expected, np.load(other.path) as found:
            for name in expected.files:
                np.testing.assert_allclose(found[name], expected[name], atol=2e-4, err_msg=name)
        assert other.val_mae == pytest.approx(one.val_mae, abs=1e-4)


def test_two_devices_share_a_step(tmp_path):
    """A step of 16 graphs in two parts: on one device and on two the same training."""
    run_on_two_devices(DEVICES, str(tmp_path))


DEVICES = """
import sys
import jax, numpy as np
from gnome_core.models.config import StructuralConfig
from gnome_core.training import checkpoint
from gnome_core.training.members import loop
from gnome_core.training.members.config import TrainingConfig
from tests.gnome_core.training.members.test_loop import rocksalt_like

assert jax.local_device_count() == 2
settings = dict(members=[0], seed=1, model=StructuralConfig(width=8, steps=1))
training = TrainingConfig(epochs=2, batch_size=16, devices=2)
(two,) = loop.train_members(*rocksalt_like(), out_dir=sys.argv[1] + "/two", training=training, **settings)
loop._placement = lambda devices: lambda step: step
(one,) = loop.train_members(*rocksalt_like(), out_dir=sys.argv[1] + "/one", training=training, **settings)
with np.load(two.path) as found, np.load(one.path) as expected:
    for name in expected.files:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
"""


def test_more_devices_than_there_are_is_an_error(labelled, tmp_path):
    with pytest.raises(ValueError, match=r"training\.devices = 64"):
        train(labelled, tmp_path, TRAINING.model_copy(update={"devices": 64}))


def test_bfloat16_products_learn_too_and_keep_float32_parameters(labelled, tmp_path):
    half = LONG.model_copy(update={"precision": "bfloat16"})
    result = train(labelled, tmp_path, half)
    assert result.val_mae < 0.6 * np.abs(labelled[1] - labelled[1].mean()).mean()
    with np.load(result.path) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float32)}


def test_other_data_does_not_resume(labelled, tmp_path):
    short = TRAINING.model_copy(update={"epochs": 2})
    train(labelled, tmp_path, short)
    graphs, labels, is_train = labelled
    epochs = []
    train((graphs, labels + 1, is_train), tmp_path, short, progress=lambda row: epochs.append(row["epoch"]))
    assert epochs[0] == 1


def test_members_differ_and_repeat(labelled, whole, tmp_path):
    again, other = (train(labelled, tmp_path, member=member) for member in (0, 1))
    assert arrays(whole.path) == arrays(again.path)
    assert arrays(whole.path) != arrays(other.path)


def test_fine_tuning_starts_from_the_given_member(labelled, long, tmp_path):
    base, _ = long
    short = TRAINING.model_copy(update={"epochs": 2, "learning_rate": 1e-4})
    tuned = train(labelled, tmp_path / "tuned", short, init_from=base.path)
    fresh = train(labelled, tmp_path / "fresh", short)
    assert tuned.train_mae < 0.5 * fresh.train_mae
    origin = json.loads((tmp_path / "tuned" / "member-000.json").read_text())["init_from"]
    assert origin == f"{Path(base.path).parent.name}/member-000"
    with pytest.raises(ValueError, match="same configuration"):
        train(labelled, tmp_path / "wide", short, init_from=base.path, model=StructuralConfig(width=9))


def test_patience_stops_and_keeps_the_best(labelled, tmp_path):
    # A step far too large never improves for long.
    wild = LONG.model_copy(update={"learning_rate": 1.0, "patience": 4, "ema_decay": 0.0})
    result = train(labelled, tmp_path, wild)
    assert result.epochs < 40
    assert result.val_mae == pytest.approx(min(row["val_mae"] for row in result.curve if "val_mae" in row))


def test_bad_labels_and_empty_splits_are_errors(labelled, tmp_path):
    graphs, labels, is_train = labelled
    spoiled = labels.copy()
    spoiled[5] = np.nan
    with pytest.raises(ValueError, match="label 5"):
        train((graphs, spoiled, is_train), tmp_path)
    with pytest.raises(ValueError, match="no training"):
        train((graphs, labels, np.zeros(60, bool)), tmp_path)


def test_fixed_statistics_replace_those_of_the_data(labelled, tmp_path):
    model = StructuralConfig(width=8, steps=1, readout="mlp", adjacency=17.0, scaled=False)
    variables, record = load_member(train(labelled, tmp_path, model=model).path)
    assert (record.mean_adjacency, record.scale) == (17.0, 1.0)
    assert record.shift == pytest.approx(labelled[1][:48].mean())
    assert variables["params"]["readout_hidden"]["kernel"].shape == (8, 8)


def test_training_that_diverges_is_an_error_with_a_name(labelled, tmp_path):
    with pytest.raises(TrainingDiverged, match=r"epoch 1 .*learning_rate"):
        train(labelled, tmp_path, TRAINING.model_copy(update={"learning_rate": 1e38}))


def test_nan_parameters_of_the_last_step_are_no_success(labelled, tmp_path, monkeypatch):
    """The loss is that before a step, so a step that spoils everything leaves no trace in it."""
    graphs, labels, _ = labelled
    real = loop.train_step

    def spoiled(*args):
        state = real(*args)
        return state._replace(average=jax.tree.map(lambda x: x * np.nan, state.average))

    monkeypatch.setattr(loop, "train_step", spoiled)
    with pytest.raises(TrainingDiverged, match="member 0: the error of the trained member is not finite"):
        train((graphs, labels, np.ones(60, bool)), tmp_path)
    assert not list(tmp_path.glob("member-*"))
    with pytest.raises(TrainingDiverged, match="val mae of epoch 2"):
        train(labelled, tmp_path)


def test_no_validation_rows_is_legal(labelled, tmp_path):
    graphs, labels, _ = labelled
    result = train((graphs, labels, np.ones(60, bool)), tmp_path)
    assert result.val_mae is None
