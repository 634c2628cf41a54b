"""Errors of a potential whose answers are known."""

import numpy as np
import pytest

from gnome_core.potentials.errors import potential_errors
from gnome_core.potentials.potential import Evaluation
from tests.gnome_core.potentials.pair_frames import pair_frames


class Softer:
    """The labels, their forces times a factor."""

    scale = "pair"

    def __init__(self, frames, factor):
        self.frames, self.factor = frames, factor

    def check(self, crystal):
        pass

    def evaluate(self, crystals):
        rows = [next(i for i, own in enumerate(self.frames.crystals) if own is crystal) for crystal in crystals]
        frames = self.frames
        return [Evaluation(frames.energies[i], self.factor * frames.forces[i], frames.stresses[i], None) for i in rows]


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_softening_is_the_slope_of_predicted_forces_over_true_ones(factor):
    frames = pair_frames(6)
    errors = potential_errors(Softer(frames, factor), frames)
    assert errors["force_slope"] == pytest.approx(factor)
    size = 1e3 * np.abs(np.concatenate(frames.forces)).mean()
    assert errors["force_mae"] == pytest.approx(abs(factor - 1) * size, abs=1e-9)
    assert errors["energy_mae"] == 0


def test_frames_without_forces_tell_nothing_of_softening():
    frames = pair_frames(2)
    for forces in frames.forces:
        forces[:] = 0
    assert "force_slope" not in potential_errors(Softer(frames, 1.0), frames)
