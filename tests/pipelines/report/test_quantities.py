"""Units of what reports show, by the names of columns and labels."""

from __future__ import annotations

import pytest

from pipelines.report.quantities import shown, title


@pytest.mark.parametrize(
    ("name", "value", "words", "text"),
    [
        ("mae", 0.1605, "mae (meV/atom)", "160.5"),
        ("MAE (eV/atom)", 0.132, "MAE (meV/atom)", "132.0"),
        ("val_mae", 0.0334, "val mae (meV/atom)", "33.4"),
        ("e_form_per_atom", -1.23456, "e form per atom (eV/atom)", "−1.235"),
        ("e_above_hull", 0.0, "e above hull (meV/atom)", "0.0"),
        ("e_above_mp_hull_uncertainty", 0.059, "e above mp hull uncertainty (meV/atom)", "59.0"),
        ("hit_rate_model", 0.1417, "hit rate model (%)", "14.2"),
        ("hit rate, models", 0.6742, "hit rate, models (%)", "67.4"),
        ("share, four elements", None, "share, four elements (%)", "–"),
        ("precision", float("nan"), "precision (%)", "–"),
        ("median distance now (meV/atom)", 12.3, "median distance now (meV/atom)", "12.3"),
        ("reduction_potential", 1.2345, "reduction potential (V)", "1.23"),
        ("daf", 2.34567, "daf", "2.346"),
        ("acceleration (precision over prevalence)", 5.4, "acceleration (precision over prevalence)", "5.4"),
        ("evaluated", 1234, "evaluated", "1,234"),
        ("on_hull", True, "on hull", "yes"),
        ("formula", "Li2O", "formula", "Li2O"),
    ],
)
def test_a_quantity_has_one_unit_wherever_it_stands(name, value, words, text):
    assert (title(name), shown(name, value)) == (words, text)
