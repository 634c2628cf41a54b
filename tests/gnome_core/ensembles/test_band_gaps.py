"""The shipped model of band gaps, on what it was never trained on."""

import numpy as np
import pytest

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.crystals.split import is_train
from gnome_core.ensembles.band_gaps import model_error, predict_band_gaps
from gnome_core.units import INSULATOR_GAP
from tests.conftest import ROOT
from tools.band_gaps import lowest

STRUCTURES = ROOT.parent / "shared" / "data" / "mp_structures.parquet"


def composition(**counts: int) -> np.ndarray:
    from gnome_core.compositions.formulas import NUMBERS

    row = np.zeros(N_COLUMNS, int)
    for symbol, count in counts.items():
        row[NUMBERS[symbol]] = count
    return row


def test_metals_have_none_and_salts_have_wide_ones():
    gaps = predict_band_gaps(np.array([composition(Cu=1, Zn=1), composition(Na=1, Cl=1), composition(Na=2, Po=1)]))
    assert gaps[0] < 0.3
    assert gaps[1] > 3
    assert np.isnan(gaps[2]), "polonium is in no crystal that it learnt from"
    assert (predict_band_gaps(np.array([composition(Fe=3, Al=1), composition(Ni=1)])) >= 0).all()
    assert len(predict_band_gaps(np.zeros((0, N_COLUMNS), int))) == 0


@pytest.mark.skipif(not STRUCTURES.exists(), reason="../shared/data is not here")
def test_the_stated_error_is_that_of_formulas_held_out():
    formulas, compositions, true = lowest(str(STRUCTURES))
    held = np.array([not is_train(formula) for formula in formulas])
    predicted = predict_band_gaps(compositions[held])
    known = np.isfinite(predicted)
    assert known.mean() > 0.99
    error = np.abs(predicted - true[held])[known].mean()
    assert error == pytest.approx(model_error(), abs=0.01)  # parameters are kept as float16, gaps below 0 are none
    assert error < 0.4 * np.abs(true[held] - np.median(true[~held])).mean()
    right = (predicted > INSULATOR_GAP) == (true[held] > INSULATOR_GAP)
    assert right.mean() > 0.85
