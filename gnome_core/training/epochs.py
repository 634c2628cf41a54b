"""The skeleton of every training: resume, epochs of steps, validation, checkpoints. What those are, each kind says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from gnome_core.errors import GnomeError
from gnome_core.training.checkpoint import Checkpoints

State = TypeVar("State")
Row = dict[str, float]


class TrainingDiverged(GnomeError, ValueError):
    """A loss, an error or a parameter is NaN or infinite."""


class Training(Protocol[State]):
    """One kind of training. Its curves are rows of losses and errors by epoch, one curve for each name.

    names: what is trained, for messages; "" where there is only one. Epochs are counted from 0 while they run.
    """

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def epochs(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    def steps(self, state: State, epoch: int, first: int) -> Iterator[State]:
        """The state after each step of an epoch, from its step `first` on."""
        ...

    def end_epoch(self, state: State, ended: int) -> tuple[State, list[Row]]:
        """The state that the next epoch starts from, and a row for each curve; `ended` epochs are over."""
        ...

    def is_over(self, state: State, ended: int) -> bool:
        """Whether to stop before all epochs are over."""
        ...

    def checkpoint_due(self, ended: int, step: int, total: int) -> bool:
        """Whether to keep the state: after `step` steps of the running epoch (0 between epochs), `total` in all."""
        ...


class Trained(NamedTuple, Generic[State]):
    """How a training ended."""

    state: State
    epochs: int
    curves: list[list[Row]]


def run_epochs(
    training: Training[State], state: State, folder: str | Path, progress: Callable[[int, Row], None]
) -> Trained[State]:
    """Train from the newest checkpoint in `folder`, or from `state`, to the end.

    progress gets the index of a curve and its row after each epoch. Interrupted at any point, the next call repeats
    what follows the newest checkpoint and ends with the same bits. Raises TrainingDiverged.
    """
    ended, step, total = 0, 0, 0
    curves: list[list[Row]] = [[] for _ in training.names]
    checkpoints = Checkpoints(folder)

    def keep_if_due() -> None:
        if training.checkpoint_due(ended, step, total):
            checkpoints.save(total, state, {"epoch": ended, "step": step, "total": total, "curves": curves})

    try:
        if (restored := checkpoints.restore_newest(state)) is not None:
            state, position = restored
            ended, step, total, curves = (position[name] for name in ("epoch", "step", "total", "curves"))
        while ended < training.epochs and not training.is_over(state, ended):
            for stepped in training.steps(state, ended, step):
                state, step, total = stepped, step + 1, total + 1
                keep_if_due()
            ended, step = ended + 1, 0
            state, rows = training.end_epoch(state, ended)
            _refuse_divergence(training, rows)
            for curve, row in zip(curves, rows, strict=True):
                curve.append(row)
            keep_if_due()
            for index, row in enumerate(rows):
                progress(index, row)
    finally:
        checkpoints.close()
    return Trained(state, ended, curves)


def diverged(name: str, what: str, learning_rate: float) -> TrainingDiverged:
    """The error of a training of which `what` is not finite."""
    who = f"{name}: " if name else ""
    return TrainingDiverged(f"{who}{what} is not finite; lower training.learning_rate ({learning_rate:g})")


def _refuse_divergence(training: Training, rows: list[Row]) -> None:
    for name, row in zip(training.names, rows, strict=True):
        for key, value in row.items():
            if not math.isfinite(value):
                what = key.replace("_", " ")
                raise diverged(name, f"the {what} of epoch {row['epoch']:.0f}", training.learning_rate)
