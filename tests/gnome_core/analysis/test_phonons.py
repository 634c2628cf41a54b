"""Frequencies and heat capacities against the limits that theory knows."""

import numpy as np
import pytest

from gnome_core.analysis.phonons import GAS_CONSTANT, THZ_IN_KELVIN, bands, heat_capacity, save_bands, vibrations
from gnome_core.crystals.crystal import Crystal
from gnome_core.models.elements import ATOMIC_MASSES
from tests.gnome_core.potentials.samples import COPPER
from tests.gnome_core.potentials.springs import THZ, Springs

pytest.importorskip("phonopy")
from gnome_core.potentials.force_constants import harmonic

BOND = 3.6 / np.sqrt(2)


@pytest.fixture(scope="module")
def copper():
    return harmonic(COPPER, Springs(BOND), 7.0)


def test_the_heat_capacity_of_a_mode_is_einsteins():
    x = np.array([1e-9, 1.0, 20.0])  # h nu / k T
    expected = GAS_CONSTANT * np.array([1.0, np.e / (np.e - 1) ** 2, 400 * np.exp(-20)])
    assert heat_capacity(x * 300 / THZ_IN_KELVIN, 300) == pytest.approx(expected, rel=1e-6)
    assert heat_capacity(np.array([0.0, -1.0]), 300) == pytest.approx([GAS_CONSTANT, 0])


def test_soft_crystals_have_three_gas_constants_an_atom_and_stiff_ones_less(copper):
    soft = vibrations(harmonic(COPPER, Springs(BOND, 1e-2), 7.0))
    assert soft.heat_capacity == pytest.approx(3 * GAS_CONSTANT, rel=1e-3)
    assert 0.8 * 3 * GAS_CONSTANT < vibrations(copper).heat_capacity < 0.99 * 3 * GAS_CONSTANT


def test_the_heat_capacity_is_phonopys(copper):
    found = vibrations(copper)
    copper.run_thermal_properties(temperatures=[300], cutoff_frequency=1e-3)  # THz; noise has no sign of its own
    theirs = float(copper.thermal_properties.heat_capacity[0])
    # phonopy leaves out the three modes at Gamma that move the crystal as a whole.
    assert found.heat_capacity - theirs == pytest.approx(
        3 * GAS_CONSTANT / copper.mesh.weights.sum(), rel=0.01, abs=1e-4
    )


def test_translations_are_no_modes_of_the_crystal(copper):
    found = vibrations(copper)
    assert found.lowest > 0.3
    assert found.optical is None


def test_optical_modes_of_two_masses_are_known():
    salt = Crystal(5.6 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), [[0, 0, 0], [0.5] * 3], [11, 17])
    spring = Springs(2.8)
    optical = THZ * np.sqrt(2 * spring.stiffness * (1 / ATOMIC_MASSES[11] + 1 / ATOMIC_MASSES[17]))
    assert vibrations(harmonic(salt, spring, 4.0)).optical == pytest.approx(optical, rel=2e-3)


def test_bands_go_through_the_special_points_and_are_drawn(copper, tmp_path):
    found = bands(copper, points=60)
    names = [name for name, _ in found.ticks]
    assert {"G", "X", "L"} <= set(names)
    at_x = found.frequencies[np.argmin(np.abs(found.distances - dict(found.ticks)["X"]))]
    assert at_x.max() == pytest.approx(THZ * np.sqrt(8 * 2.0 / ATOMIC_MASSES[29]), rel=5e-3)
    save_bands(copper, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
