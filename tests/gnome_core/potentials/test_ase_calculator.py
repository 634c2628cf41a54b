"""ASE calculators as potentials."""

import numpy as np
import pytest
from ase.calculators.emt import EMT

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.ase_calculator import CalculatorFailed, CalculatorPotential
from gnome_core.potentials.relax import Relaxation, RelaxationFailure, RelaxConfig, relax

FCC = 2.0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], float) * 0.95
COPPER, SILICON = (Crystal(FCC, [[0, 0, 0]], [z]) for z in (29, 14))


class Counted(EMT):
    """How often it was asked; `breaks_at` raises what it is given at that call."""

    def __init__(self, breaks_at: int = 0, error: Exception | None = None):
        super().__init__()
        self.calls, self.breaks_at, self.error = 0, breaks_at, error

    def calculate(self, *arguments, **options) -> None:
        self.calls += 1
        if self.calls == self.breaks_at:
            raise self.error
        super().calculate(*arguments, **options)


def test_a_crystal_that_the_calculator_turns_away_fails_by_its_words_and_no_other():
    potential = CalculatorPotential(Counted(), "emt")
    with pytest.raises(CalculatorFailed, match="NotImplementedError: No EMT-potential for Si"):
        potential.check(SILICON)
    first, failed, second = relax([COPPER, SILICON, COPPER.scaled_to_volume(1.1 * COPPER.volume)], potential)
    assert isinstance(failed, RelaxationFailure)
    assert failed.reason == "calculator_failed"
    assert isinstance(first, Relaxation)
    assert isinstance(second, Relaxation)
    assert first.energy_per_atom == pytest.approx(second.energy_per_atom, abs=1e-3)


def test_what_was_checked_is_not_asked_for_twice():
    calculator = Counted()
    (done,) = relax([COPPER.scaled_to_volume(1.1 * COPPER.volume)], CalculatorPotential(calculator, "emt"))
    assert isinstance(done, Relaxation)
    assert calculator.calls == len(done.frames)


def test_a_relaxation_that_leads_to_what_is_turned_away_ends_alone():
    potential = CalculatorPotential(Counted(breaks_at=3, error=ValueError("no neighbours")), "emt")
    (failed,) = relax([COPPER.scaled_to_volume(1.1 * COPPER.volume)], potential, RelaxConfig())
    assert isinstance(failed, RelaxationFailure)
    assert failed.reason == "not_finite"
    assert len(failed.frames) == 2


def test_what_the_machine_lacks_ends_the_command():
    potential = CalculatorPotential(Counted(breaks_at=1, error=RuntimeError("out of memory")), "emt")
    with pytest.raises(RuntimeError, match="out of memory"):
        potential.check(COPPER)
