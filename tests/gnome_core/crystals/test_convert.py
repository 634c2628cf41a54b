import numpy as np
import pytest

from gnome_core.crystals.convert import from_atoms, from_structure, to_atoms, to_structure
from gnome_core.crystals.crystal import InvalidCrystal
from tests.gnome_core.crystals.samples import sample_crystals


@pytest.mark.parametrize(
    "there_and_back", [lambda c: from_structure(to_structure(c)), lambda c: from_atoms(to_atoms(c))]
)
def test_round_trip_keeps_every_number(there_and_back):
    for crystal in sample_crystals(8):
        back = there_and_back(crystal)
        np.testing.assert_array_equal(back.numbers, crystal.numbers)
        np.testing.assert_allclose(back.lattice, crystal.lattice, atol=1e-12)
        np.testing.assert_allclose(back.frac_coords, crystal.frac_coords, atol=1e-12)


def test_disorder_dummies_and_molecules_are_refused():
    from ase import Atoms
    from pymatgen.core import Structure

    cell = np.eye(3) * 4
    with pytest.raises(InvalidCrystal, match=r"Fe:0\.5") as disordered:
        from_structure(Structure(cell, [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]))
    assert disordered.value.reason == "partial_occupancy"
    with pytest.raises(InvalidCrystal) as dummy:
        from_structure(Structure(cell, ["X"], [[0, 0, 0]]))
    assert dummy.value.reason == "unknown_element"
    with pytest.raises(InvalidCrystal) as molecule:
        from_atoms(Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.2]]))
    assert molecule.value.reason == "not_periodic"


def test_oxidation_states_are_dropped():
    from pymatgen.core import Structure

    structure = Structure(np.eye(3) * 4, ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert from_structure(structure).numbers.tolist() == [11, 17]
