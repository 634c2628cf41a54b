import numpy as np
import pytest

from gnome_core.analysis.discovery import (
    discovery_metrics,
    hit_rate,
    iqr_calibration,
    regression_metrics,
)

TRUE = np.array([-0.1, 0.0, 0.2, 0.3, -0.2, 0.1, np.nan, 0.4])
PREDICTED = np.array([-0.2, 0.1, -0.1, 0.4, np.nan, 0.2, -0.5, 0.3])


def test_counts_and_ratios_of_matbench_discovery():
    metrics = discovery_metrics(TRUE, PREDICTED)
    assert (metrics.true_positives, metrics.false_positives) == (1, 1)
    # The NaN prediction of a stable crystal is a false negative; the row without truth is left out.
    assert (metrics.false_negatives, metrics.true_negatives) == (2, 3)
    assert metrics.precision == 0.5
    assert metrics.recall == pytest.approx(1 / 3)
    assert metrics.prevalence == pytest.approx(3 / 7)
    assert metrics.daf == pytest.approx(0.5 / (3 / 7))
    assert metrics.f1 == pytest.approx(0.4)
    assert metrics.accuracy == pytest.approx(4 / 7)


def test_threshold_is_inclusive():
    assert discovery_metrics(np.array([0.05]), np.array([0.05]), threshold=0.05).true_positives == 1


def test_undefined_ratios_are_nan():
    nothing_called = discovery_metrics(np.array([-1.0, 1.0]), np.array([1.0, 1.0]))
    assert np.isnan(nothing_called.precision)
    assert np.isnan(nothing_called.f1)
    assert nothing_called.recall == 0.0
    assert np.isnan(discovery_metrics(np.zeros(0), np.zeros(0)).accuracy)


def test_failed_evaluations_are_misses():
    assert hit_rate(np.array([-0.1, 0.1, np.nan, 0.0])) == 0.5
    assert np.isnan(hit_rate(np.zeros(0)))


def test_regression_metrics():
    metrics = regression_metrics(np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 2.5, 2.0, 0.0]))
    assert metrics.mae == pytest.approx(0.5)
    assert metrics.rmse == pytest.approx(np.sqrt(1.25 / 3))
    assert metrics.r2 == pytest.approx(1 - 1.25 / 2)
    assert metrics.n == 3
    assert np.isnan(regression_metrics(np.ones(3), np.zeros(3)).r2)
    assert regression_metrics(np.zeros(0), np.zeros(0)).n == 0
    with pytest.raises(ValueError, match="shapes"):
        regression_metrics(np.zeros(2), np.zeros(3))


def test_calibrated_spread_covers_what_it_says():
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.01, 0.2, 20_000)
    median = rng.normal(size=20_000)
    calibration = iqr_calibration(median + sigma * rng.normal(size=20_000), median, sigma * 1.349, bins=5)
    np.testing.assert_allclose(calibration.coverage, calibration.levels, atol=0.01)
    np.testing.assert_allclose(calibration.bin_rmse, calibration.bin_iqr / 1.349, rtol=0.1)
    assert calibration.bin_count.tolist() == [4000] * 5
    assert calibration.rank_correlation > 0.4
    overconfident = iqr_calibration(median + sigma * rng.normal(size=20_000), median, sigma * 0.3)
    assert (overconfident.coverage < overconfident.levels).all()


def test_calibration_of_few_or_constant_rows():
    few = iqr_calibration(np.array([0.0, 1.0, np.nan]), np.zeros(3), np.full(3, 0.1))
    assert few.bin_count.tolist() == [1, 1]
    assert np.isnan(few.rank_correlation)
    assert np.isnan(iqr_calibration(np.zeros(0), np.zeros(0), np.zeros(0)).coverage).all()
