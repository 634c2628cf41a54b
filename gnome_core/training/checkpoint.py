"""Training state on disk. The only file that imports orbax."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

log = logging.getLogger(__name__)


class Checkpoints:
    """The newest state of one training and where in the training that is, keyed by the steps taken.

    Both are parts of one checkpoint, which is there as a whole once its folder has its final name: a process that is
    killed while it writes leaves the checkpoint before.
    """

    def __init__(self, directory: str | Path):
        self._directory = Path(directory).absolute()
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, state: Any, position: dict) -> None:
        """Keep `state` (a pytree of arrays) and `position` (plain JSON) as the newest, dropping older ones."""
        parts = {"state": ocp.args.StandardSave(state), "position": ocp.args.JsonSave(position)}
        self._manager.save(step, args=ocp.args.Composite(**parts))

    def restore_newest(self, like: Any) -> tuple[Any, dict] | None:
        """(state with the structure of `like`, position) of the newest checkpoint, or None.

        One that cannot be read (of an older version, or torn by a full disk) is dropped: the training starts anew.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        parts = {"state": ocp.args.StandardRestore(shapes), "position": ocp.args.JsonRestore()}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**parts))
        except (ValueError, KeyError, OSError) as error:
            log.warning("%s: checkpoint %d cannot be read (%s); the training starts anew", self._directory, step, error)
            self._manager.close()
            shutil.rmtree(self._directory)
            self._manager = self._open()
            return None
        return restored["state"], restored["position"]

    def close(self) -> None:
        self._manager.close()
