"""Diffusion of walks whose diffusivity is known."""

import numpy as np
import pytest

from gnome_core.analysis.diffusion import SUPERIONIC, TooShort, arrhenius, diffusion
from gnome_core.crystals.crystal import Crystal

CELL = Crystal(
    10.0 * np.eye(3), np.random.default_rng(0).random((32, 3)), [3] * 24 + [17] * 8
)  # 24 lithium ions in 1,000 Å^3
FRAME = 0.02  # ps


def walk(step: float, n_frames: int = 2001, drift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Lithium walks with normal steps (Å a component), chlorine vibrates; everything drifts along x."""
    rng = np.random.default_rng(1)
    moves = np.cumsum(rng.normal(scale=step, size=(n_frames, 24, 3)), axis=0)
    vibration = rng.normal(scale=0.1, size=(n_frames, 8, 3))
    positions = CELL.positions + np.concatenate([moves, vibration], axis=1)
    times = FRAME * np.arange(n_frames)
    positions[..., 0] += drift * times[:, None]
    return positions, times


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_the_diffusivity_and_conductivity_of_a_random_walk(drift):
    step = 0.05
    result = diffusion(CELL, *walk(step, drift=drift), "Li", 1000.0)
    expected = step**2 / (2 * FRAME) * 1e-4  # <dx^2> = 2 D t; Å^2/ps = 1e-4 cm^2/s
    assert result.diffusivity == pytest.approx(expected, rel=0.25)
    # Nernst-Einstein: n e^2 D / (V k T), with n/V in 1/cm^3.
    density, charge, thermal = 24 / 1e-21, 1.602177e-19, 1.380649e-23 * 1000
    assert result.conductivity == pytest.approx(1e3 * density * charge**2 * result.diffusivity / thermal, rel=1e-3)
    assert result.superionic == (result.conductivity > SUPERIONIC)
    assert result.framework_msd < 0.5
    slope = np.polyfit(result.lags, result.msd, 1)[0]
    assert slope / 6 * 1e-4 == pytest.approx(result.diffusivity, rel=0.3)


def test_vibrating_ions_do_not_conduct():
    positions, times = walk(0.0)
    positions[:, :24] += np.random.default_rng(2).normal(scale=0.15, size=(len(times), 24, 3))
    assert not diffusion(CELL, positions, times, "Li", 1000.0).superionic


def test_short_runs_and_wrong_ions_are_refused():
    positions, times = walk(0.05, n_frames=300)
    with pytest.raises(TooShort, match="run longer"):
        diffusion(CELL, positions, times, "Li", 1000.0)
    with pytest.raises(ValueError, match="diffusion of Na"):
        diffusion(CELL, positions, times, "Na", 1000.0, skip=0)
    with pytest.raises(ValueError, match="framework"):
        diffusion(Crystal(CELL.lattice, CELL.frac_coords, [3] * 32), positions, times, "Li", 1000.0, skip=0)


def test_an_arrhenius_fit_gives_back_its_activation_energy():
    kelvin = np.array([600.0, 800.0, 1000.0, 1200.0])
    sigma = 1e6 / kelvin * np.exp(-0.3 / (8.617333262e-5 * kelvin))
    fit = arrhenius(kelvin, sigma)
    assert fit.activation == pytest.approx(0.3)
    assert fit.conductivity(900.0) == pytest.approx(1e6 / 900 * np.exp(-0.3 / (8.617333262e-5 * 900)))
    with pytest.raises(ValueError, match="two temperatures"):
        arrhenius([1000.0], [1.0])
