"""One factor by split conformal prediction: it covers what it says, and reaches every prediction of the ensemble."""

import numpy as np
import pytest

from gnome_core.ensembles.calibration import FILE, calibration_json, calibration_rows, iqr_factor
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import EnsembleModel, calibrate
from gnome_core.ensembles.screening import screen
from gnome_core.graphs.featurize import structural_graphs
from gnome_core.models.members import BadMember
from tests.gnome_core.ensembles.test_ensemble import CRYSTALS, random_crystal, write_member


def test_half_of_new_errors_lie_within_the_calibrated_range():
    rng = np.random.default_rng(0)
    scale = rng.lognormal(size=4_000)
    error, iqr = 0.05 * scale * rng.standard_t(3, size=4_000), 0.01 * scale  # far too narrow, but it ranks
    factor = iqr_factor(error[:2_000], np.zeros(2_000), iqr[:2_000])
    inside = np.abs(error[2_000:]) <= factor * iqr[2_000:] / 2
    assert (np.abs(error) <= iqr / 2).mean() < 0.15
    assert inside.mean() == pytest.approx(0.5, abs=0.04)
    assert iqr_factor(error[:19], np.zeros(19), iqr[:19]) == 1.0, "too few to say"


def test_rows_to_calibrate_on_are_held_out_and_spread():
    is_train = np.arange(50_000) % 5 > 0
    rows = calibration_rows(is_train)
    assert 1_000 < len(rows) <= 2_000
    assert not is_train[rows].any()
    assert calibration_rows(np.ones(3, bool)).tolist() == []


def test_the_factor_is_kept_with_the_members_and_widens_every_range(tmp_path):
    paths = [write_member(tmp_path / f"member-{k:03d}.npz", k) for k in range(3)]
    plain = EnsembleModel.load(paths)
    table = structural_graphs([random_crystal(seed) for seed in range(30)])
    labels = np.random.default_rng(1).normal(size=30)
    (tmp_path / FILE).write_bytes(calibrate(paths, table, labels, np.zeros(30, bool)))
    wide = EnsembleModel.load(paths)
    assert wide.iqr_factor != 1.0
    median, iqr = wide.median_and_iqr(wide.energies(table, np.arange(30), np.ones(30)))
    assert (np.abs(median - labels) <= iqr / 2 * 1.001).sum() == 16  # of 30, the smallest rank that guarantees a half
    before, after = plain.predict(CRYSTALS[:5]), wide.predict(CRYSTALS[:5])
    np.testing.assert_allclose(after.iqr, wide.iqr_factor * before.iqr, rtol=1e-6)
    np.testing.assert_array_equal(after.median, before.median)
    config = CascadeConfig(first_margin=100.0)
    screened = [screen(model, CRYSTALS[:5], np.zeros(5), 50.0, config).iqr for model in (plain, wide)]
    np.testing.assert_allclose(screened[1], wide.iqr_factor * screened[0], rtol=1e-6)


@pytest.mark.parametrize("content", [b"{}", b"nonsense", calibration_json(-1.0, 5)])
def test_a_broken_calibration_is_named(content, tmp_path):
    path = write_member(tmp_path / "member-000.npz", 0)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BadMember, match=FILE):
        EnsembleModel.load([path])
