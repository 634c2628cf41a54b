"""One factor by split conformal prediction: it covers what it says, and reaches every prediction of the ensemble."""

import numpy as np
import pytest

from gnome_core.compositions.dense import atom_counts
from gnome_core.ensembles.calibration import (
    FILE,
    MIN_ROWS,
    SpreadCalibration,
    calibration_rows,
    fit_calibration,
    iqr_factor,
    pairs_of,
    read_calibration,
)
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
    rows = calibration_rows(~is_train)
    assert 1_000 < len(rows) <= 2_000
    assert not is_train[rows].any()
    assert calibration_rows(np.zeros(3, bool)).tolist() == []


def test_the_factor_is_kept_with_the_members_and_widens_every_range(tmp_path):
    paths = [write_member(tmp_path / f"member-{k:03d}.npz", k) for k in range(3)]
    plain = EnsembleModel.load(paths)
    # Every crystal twice: once trained on, so that all pairs of elements are known, and once held out.
    table = structural_graphs([random_crystal(seed % 30) for seed in range(60)])
    labels, is_train = np.random.default_rng(1).normal(size=60), np.arange(60) >= 30
    (tmp_path / FILE).write_bytes(calibrate(paths, table, labels, is_train))
    wide = EnsembleModel.load(paths)
    factor = wide.calibration.factor
    assert factor != 1.0
    assert wide.calibration.n == 30
    compositions = atom_counts([random_crystal(seed).numbers for seed in range(30)])
    median, iqr = wide.median_and_iqr(wide.energies(table, np.arange(30), np.ones(30)), compositions)
    assert (np.abs(median - labels[:30]) <= iqr / 2 * 1.001).sum() == 16  # of 30, the smallest rank with a half
    known = [crystal for crystal in CRYSTALS if not wide.calibration.extrapolated(atom_counts([crystal.numbers]))[0]][
        :5
    ]
    assert len(known) > 1
    before, after = plain.predict(known), wide.predict(known)
    np.testing.assert_allclose(after.iqr, factor * before.iqr, rtol=1e-6)
    np.testing.assert_array_equal(after.median, before.median)
    config = CascadeConfig(first_margin=100.0)
    screened = [screen(model, known, np.zeros(len(known)), 50.0, config).iqr for model in (plain, wide)]
    np.testing.assert_allclose(screened[1], factor * screened[0], rtol=1e-6)


def test_only_the_rows_asked_for_calibrate(tmp_path):
    paths = [write_member(tmp_path / f"member-{k:03d}.npz", k) for k in range(2)]
    table = structural_graphs([random_crystal(seed) for seed in range(40)])
    rows = np.arange(40) < 25
    (tmp_path / FILE).write_bytes(calibrate(paths, table, np.zeros(40), np.arange(40) >= 30, rows))
    found = read_calibration(tmp_path)
    assert found.n + found.n_extrapolated == 25


def test_extrapolations_have_a_factor_of_their_own_and_are_told(tmp_path):
    rng = np.random.default_rng(2)
    train = atom_counts([[11, 17], [3, 9, 8], [3, 17]])
    pairs = pairs_of(train)
    known, beyond = atom_counts([[11, 11, 17], [3, 8]]), atom_counts([[11, 9], [3, 11, 17]])
    compositions = np.concatenate([np.tile(known, (200, 1)), np.tile(beyond, (200, 1))])
    error = 0.1 * rng.normal(size=800) * np.repeat([1.0, 4.0], 400)
    found = fit_calibration(error, np.zeros(800), np.full(800, 0.05), compositions, pairs)
    assert (found.n, found.n_extrapolated) == (400, 400)
    assert found.extrapolated_factor / found.factor == pytest.approx(4, rel=0.3)
    (tmp_path / FILE).write_bytes(found.to_json())
    again = read_calibration(tmp_path)
    np.testing.assert_array_equal(again.pairs | np.eye(95, dtype=bool), pairs | np.eye(95, dtype=bool))
    assert again.extrapolated(np.concatenate([known, beyond])).tolist() == [False, False, True, True]
    np.testing.assert_allclose(again.factors(known), found.factor, rtol=1e-3)
    np.testing.assert_allclose(again.factors(beyond), found.extrapolated_factor, rtol=1e-3)
    few = fit_calibration(
        error[: 399 + MIN_ROWS],
        *(np.zeros(399 + MIN_ROWS), np.full(399 + MIN_ROWS, 0.05)),
        compositions[: 399 + MIN_ROWS],
        pairs,
    )
    assert few.extrapolated_factor == few.factor, "too few to say"


def test_a_calibration_of_an_earlier_version_flags_nothing(tmp_path):
    (tmp_path / FILE).write_text('{"iqr_factor": 3.0, "n": 100}')
    found = read_calibration(tmp_path)
    assert (found.factor, found.n) == (3.0, 100)
    assert found.factors(atom_counts([[1, 94]])).tolist() == [3.0]
    assert not found.extrapolated(atom_counts([[1, 94]])).any()


@pytest.mark.parametrize(
    "content",
    [b"{}", b"nonsense", b'{"iqr_factor": 2, "n": 3, "pairs": "Na-Xx"}', SpreadCalibration(-1.0, 5).to_json()],
)
def test_a_broken_calibration_is_named(content, tmp_path):
    path = write_member(tmp_path / "member-000.npz", 0)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BadMember, match=FILE):
        EnsembleModel.load([path])
