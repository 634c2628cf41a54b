from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.stability.corrections import mp2020_corrections, potential_shifts

FE_LI_O_P = Path(__file__).parents[4] / "shared" / "data" / "hull_reference_Fe-Li-O-P.parquet"
CUBE = np.eye(3) * 4.2
CAESIUM_CHLORIDE = [[0, 0, 0], [0.5, 0.5, 0.5]]


@pytest.mark.skipif(not FE_LI_O_P.exists(), reason="../shared/data is not here")
def test_equals_the_materials_projects_own_corrections():
    table = pq.read_table(FE_LI_O_P)
    table = table.take(np.arange(0, len(table), 17))
    corrected = mp2020_corrections(
        crystals_from_batch(table), [{"Fe": 5.3} if run == "GGA+U" else {} for run in table["run_type"].to_pylist()]
    )
    assert corrected.problems == (None,) * len(table)
    expected = table["correction_ev"].to_numpy() / table["n_atoms"].to_numpy()
    np.testing.assert_allclose(corrected.per_atom, expected, atol=1e-6)
    assert "mp2020/require_bound" in corrected.version


def test_oxides_and_peroxides_by_bond_length():
    # CaO2 with O-O of 1.5 Å, and the same atoms far apart.
    peroxide = Crystal(np.eye(3) * 5, [[0, 0, 0], [0.5, 0.5, 0.35], [0.5, 0.5, 0.65]], [20, 8, 8])
    oxide = Crystal(np.eye(3) * 5, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]], [20, 8, 8])
    values = mp2020_corrections([peroxide, oxide], [{}, {}]).per_atom
    np.testing.assert_allclose(values, [-0.465 * 2 / 3, -0.687 * 2 / 3], atol=1e-9)


def test_elements_need_none_and_foreign_u_values_are_named():
    oxide = Crystal(CUBE, CAESIUM_CHLORIDE, [26, 8])
    iron = Crystal(CUBE, [[0, 0, 0]], [26])
    corrected = mp2020_corrections([oxide, oxide, iron], [{"Fe": 5.3}, {"Fe": 4.0}, {}])
    assert corrected.per_atom[0] == pytest.approx((-0.687 - 2.256) / 2)
    assert np.isnan(corrected.per_atom[1])
    assert corrected.problems[1] == "Invalid U value of 4.0 on Fe, expected 5.3"
    assert corrected.per_atom[2] == 0


def test_halides_are_corrected_as_anions():
    fluoride = Crystal(CUBE, CAESIUM_CHLORIDE, [11, 9])
    assert mp2020_corrections([fluoride], [{}]).per_atom[0] == pytest.approx(-0.462 / 2)


def test_potential_shifts_are_those_of_the_release():
    shifts = potential_shifts([np.array([12, 8]), np.array([3, 3, 32, 8]), np.array([26])])
    np.testing.assert_allclose(shifts.per_atom, [0.0924014 / 2, (2 * -0.00301278 + 0.10417085) / 4, 0.0], atol=1e-12)
    assert shifts.problems == (None,) * 3
