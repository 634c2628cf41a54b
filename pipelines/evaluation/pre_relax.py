"""Candidates relaxed by a cheap potential before a dear evaluator sees them."""

from __future__ import annotations

from collections.abc import Sequence

from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import Relaxation, RelaxationFailure
from pipelines.beam.metrics import inc, timer
from pipelines.evaluation.batches import evaluator_of_process
from pipelines.reading.potentials import local_evaluator


def pre_relax(crystals: Sequence[Crystal], evaluator: str, config: RelaxConfig) -> list[Crystal]:
    """The crystals where the evaluator's relaxations leave them, in order. evaluator: its name, or potential:ADDRESS.

    One that it cannot judge, or that explodes, collapses or ends invalid, stays as it was.
    """
    with timer("pre_relax"):
        outcomes = evaluator_of_process(local_evaluator(evaluator), config).evaluate(crystals)
    relaxed = [_end(outcome) or crystal for crystal, outcome in zip(crystals, outcomes, strict=True)]
    inc("pre_relaxed", sum(new is not old for new, old in zip(relaxed, crystals, strict=True)))
    return relaxed


def _end(outcome: Relaxation | RelaxationFailure) -> Crystal | None:
    if not isinstance(outcome, Relaxation) and outcome.reason != "not_converged":
        return None
    end = outcome.frames[-1].crystal
    return end if invalid_reason(end) is None else None
