"""Training state on disk. The only file that imports orbax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The newest training state of one member, keyed by epoch; a half-written one is never seen."""

    def __init__(self, directory: str | Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(Path(directory).absolute(), options=options)

    def save(self, epoch: int, state: Any) -> None:
        """Keep `state` (a pytree of arrays) as the newest, dropping older ones."""
        self._manager.save(epoch, args=ocp.args.StandardSave(state))

    def restore_newest(self, like: Any) -> tuple[int, Any] | None:
        """(epoch, state) of the newest checkpoint, with the structure of `like`, or None."""
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return epoch, self._manager.restore(epoch, args=ocp.args.StandardRestore(shapes))

    def close(self) -> None:
        self._manager.close()
