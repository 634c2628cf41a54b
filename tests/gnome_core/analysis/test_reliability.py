"""Calibrations drawn from known ones, and the data that comes with the package."""

import numpy as np
import pytest

from gnome_core.analysis.reliability import fit, reliability, reliability_error
from gnome_core.crystals.readers import SCALE
from gnome_core.stability.chance import Calibration, calibrations

TRUE = Calibration(-0.03, 0.02)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Distances, and truths drawn with the chances of TRUE."""
    rng = np.random.default_rng(7)
    distances = rng.normal(0.03, 0.08, 4000)
    return distances, rng.random(4000) < TRUE.chance(distances)


def test_a_fit_finds_what_its_data_were_drawn_from(drawn):
    found = fit(*drawn)
    assert found.offset == pytest.approx(TRUE.offset, abs=3e-3)
    assert found.width == pytest.approx(TRUE.width, rel=0.1)


def test_reliability_is_of_formulas_that_the_fit_has_not_seen(drawn):
    distances, stable = drawn
    formulas = [f"X{i}" for i in range(len(distances))]
    found = reliability(formulas, np.append(distances[:-1], np.nan), stable)
    assert found.n == len(distances) - 1
    assert found.error < 0.02
    # Chances that are all one formula's are nobody's to be measured by: the fold holds everything, the fit nothing.
    assert reliability(formulas[:30], distances[:30], np.zeros(30, bool)) is None


def test_the_error_counts_each_bin_by_its_rows():
    chances = np.array([0.05, 0.05, 0.95, 0.95])
    assert reliability_error(chances, np.array([False, False, True, True])) == pytest.approx(0.05)
    assert reliability_error(chances, np.array([True, True, True, True])) == pytest.approx(0.5)
    assert reliability_error(np.array([1.0]), np.array([True])) == 0.0


def test_of_the_judges_that_are_shipped_the_better_is_the_surer():
    published = calibrations("published")
    chgnet, nequix = published["chgnet-0.3.0"], published["nequix-oam-1/mp2020"]
    assert nequix.chance(np.array([-0.03]))[0] > 0.95 > chgnet.chance(np.array([-0.03]))[0]
    assert nequix.chance(np.array([0.05]))[0] < 0.01 < chgnet.chance(np.array([0.05]))[0]
    assert set(calibrations("own")) == {"chgnet-0.3.0", SCALE}


def test_spread_makes_less_sure():
    near, far = TRUE.chance(np.array([-0.1, 0.04]), np.array([0.1, 0.1]))
    sure_near, sure_far = TRUE.chance(np.array([-0.1, 0.04]))
    assert 0.5 < near < sure_near
    assert sure_far < far < 0.5
    assert np.isnan(TRUE.chance(np.array([np.nan])))
