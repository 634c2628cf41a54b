import json

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.models.config import StructuralConfig
from gnome_core.models.registry import load_member
from gnome_core.training.config import TrainingConfig
from gnome_core.training.loop import train_member

MODEL = StructuralConfig(width=8, steps=2)
TRAINING = TrainingConfig(epochs=8, volume_jitter=0.0, batch_size=8, checkpoint_every=2, validate_every=2)


@pytest.fixture(scope="module")
def labelled():
    """Rocksalt-like cells whose energy is a smooth function of elements and size."""
    rng = np.random.default_rng(0)
    crystals, labels = [], []
    for _ in range(60):
        metal, anion = rng.choice([3, 11, 12, 19, 20]), rng.choice([8, 9, 16, 17])
        half = rng.uniform(2.0, 2.6)
        lattice = half * (np.ones((3, 3)) - np.eye(3))
        crystals.append(Crystal(lattice, [[0, 0, 0], [0.5, 0.5, 0.5]], [metal, anion]))
        labels.append(-0.1 * anion + 0.05 * metal + half)
    return crystals, np.array(labels), np.arange(60) < 48


def train(labelled, out_dir, training=TRAINING, **kwargs):
    kwargs = {"member": 0, "seed": 7, "model": MODEL} | kwargs
    return train_member(*labelled, out_dir=out_dir, training=training, **kwargs)


def arrays(path):
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


class Interrupted(Exception):
    pass


def test_learns_and_exports(labelled, tmp_path):
    rows = []
    result = train(labelled, tmp_path, TRAINING.model_copy(update={"epochs": 40}), progress=rows.append)
    assert rows == result.curve
    assert result.val_mae < 0.5 * np.abs(labelled[1] - labelled[1].mean()).mean()
    variables, record = load_member(result.path)
    assert record.elements == sorted({int(z) for c, t in zip(*labelled[::2], strict=True) if t for z in c.numbers})
    assert record.shift == pytest.approx(labelled[1][:48].mean(), rel=1e-6)
    assert record.network().config == MODEL
    assert variables["params"]["elements"].dtype == np.float32


@pytest.mark.parametrize("stop_at", [3, 4])
def test_resume_is_bit_equal(labelled, tmp_path, stop_at):
    def stop(row):
        if row["epoch"] == stop_at:
            raise Interrupted

    whole = train(labelled, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(labelled, tmp_path / "cut", progress=stop)
    epochs = []
    resumed = train(labelled, tmp_path / "cut", progress=lambda row: epochs.append(row["epoch"]))
    assert epochs[0] == (2 if stop_at == 3 else 4) + 1, "did not resume from the newest checkpoint"
    assert arrays(resumed.path) == arrays(whole.path)
    assert resumed.curve == whole.curve


def test_other_data_does_not_resume(labelled, tmp_path):
    train(labelled, tmp_path)
    crystals, labels, is_train = labelled
    epochs = []
    train((crystals, labels + 1, is_train), tmp_path, progress=lambda row: epochs.append(row["epoch"]))
    assert epochs[0] == 1


def test_members_differ_and_repeat(labelled, tmp_path):
    first, again = (train(labelled, tmp_path / name) for name in ("a", "b"))
    other = train(labelled, tmp_path / "c", member=1)
    assert arrays(first.path) == arrays(again.path)
    assert arrays(first.path) != arrays(other.path)


def test_fine_tuning_starts_from_the_given_member(labelled, tmp_path):
    base = train(labelled, tmp_path / "base", TRAINING.model_copy(update={"epochs": 40}))
    short = TRAINING.model_copy(update={"epochs": 2, "learning_rate": 1e-4})
    tuned = train(labelled, tmp_path / "tuned", short, init_from=base.path)
    fresh = train(labelled, tmp_path / "fresh", short)
    assert tuned.train_mae < 0.5 * fresh.train_mae
    assert json.loads((tmp_path / "tuned" / "member.json").read_text())["init_from"] == base.path
    with pytest.raises(ValueError, match="same configuration"):
        train(labelled, tmp_path / "wide", short, init_from=base.path, model=StructuralConfig(width=9))


def test_patience_stops_and_keeps_the_best(labelled, tmp_path):
    # A step far too large never improves for long.
    wild = TRAINING.model_copy(update={"epochs": 40, "learning_rate": 1.0, "patience": 4, "ema_decay": 0.0})
    result = train(labelled, tmp_path, wild)
    assert result.epochs < 40
    assert result.val_mae == pytest.approx(min(row["val_mae"] for row in result.curve if "val_mae" in row))


def test_bad_labels_and_empty_splits_are_errors(labelled, tmp_path):
    crystals, labels, is_train = labelled
    spoiled = labels.copy()
    spoiled[5] = np.nan
    with pytest.raises(ValueError, match="label 5"):
        train((crystals, spoiled, is_train), tmp_path)
    with pytest.raises(ValueError, match="no training"):
        train((crystals, labels, np.zeros(60, bool)), tmp_path)


def test_no_validation_rows_is_legal(labelled, tmp_path):
    crystals, labels, _ = labelled
    result = train((crystals, labels, np.ones(60, bool)), tmp_path)
    assert result.val_mae is None
