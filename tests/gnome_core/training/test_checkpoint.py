"""A checkpoint is whole or not there, whatever a kill or an older version leaves."""

import json
import logging
import os

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gnome_core.training.checkpoint import Checkpoints

LIKE = {"weights": jnp.zeros(3)}


def state(value):
    return {"weights": jnp.full(3, float(value))}


def newest(folder):
    checkpoints = Checkpoints(folder)
    found = checkpoints.restore_newest(LIKE)
    checkpoints.close()
    return None if found is None else (float(found[0]["weights"][0]), found[1])


def save(folder, step, value):
    checkpoints = Checkpoints(folder)
    checkpoints.save(step, state(value), {"epoch": step, "curves": [[{"train_loss": 0.1 * value}]]})
    checkpoints.close()


class Killed(BaseException):
    pass


def test_a_kill_before_the_last_rename_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save(tmp_path, 5, 1)
    moves = {name: getattr(os, name) for name in ("rename", "replace")}

    def killed(name):
        def move(source, target, *args, **kwargs):
            if os.path.basename(target) == "10":
                raise Killed
            return moves[name](source, target, *args, **kwargs)

        return move

    with monkeypatch.context() as patch:
        for name in moves:
            patch.setattr(os, name, killed(name))
        with pytest.raises(Killed):
            save(tmp_path, 10, 2)
    assert newest(tmp_path) == (1.0, {"epoch": 5, "curves": [[{"train_loss": 0.1}]]})
    save(tmp_path, 10, 2)
    assert newest(tmp_path) == (2.0, {"epoch": 10, "curves": [[{"train_loss": 0.2}]]})


def torn_position(folder):
    save(folder, 5, 1)
    (file,) = (path for path in folder.glob("5/position/*") if path.read_bytes().startswith(b'{"epoch"'))
    file.write_text('{"epo')


def torn_arrays(folder):
    save(folder, 5, 1)
    for path in folder.glob("5/state/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:7])


def older_version(folder):
    """The state alone, its position in a JSON beside the folder, of which a kill left half."""
    with ocp.CheckpointManager(folder) as manager:
        manager.save(5, args=ocp.args.StandardSave(state(1)))
    folder.with_suffix(".json").write_text(json.dumps({"5": {"epoch": 1}})[:9])


@pytest.mark.parametrize("leave", [torn_position, torn_arrays, older_version])
def test_what_cannot_be_read_is_dropped_with_a_word(tmp_path, caplog, leave):
    folder = tmp_path / "run"
    leave(folder)
    with caplog.at_level(logging.WARNING, logger="gnome_core"):
        assert newest(folder) is None
    assert "starts anew" in caplog.text
    save(folder, 3, 7)  # earlier in the training than what was dropped
    assert newest(folder)[0] == 7.0


def test_nothing_is_restored_from_an_empty_folder(tmp_path, caplog):
    assert newest(tmp_path / "run") is None
    assert not [record for record in caplog.records if record.name.startswith("gnome_core")]


def test_positions_come_back_to_the_bit(tmp_path):
    rows = [{"epoch": 1, "train_loss": value} for value in np.random.default_rng(0).normal(size=20).tolist()]
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(0), {"curves": [rows]})
    assert checkpoints.restore_newest(LIKE)[1] == {"curves": [rows]}
    checkpoints.close()
