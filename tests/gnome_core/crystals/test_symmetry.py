import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import space_group


def test_space_groups_are_named():
    found = space_group(Crystal(np.eye(3) * 4.1, [[0.0] * 3, [0.5] * 3], [55, 17]))
    assert found == ("Pm-3m", 221, "cP2")
    assert str(found) == "Pm-3m (221)"


def test_atoms_on_one_point_have_none():
    assert space_group(Crystal(np.eye(3) * 4.1, [[0.0] * 3, [0.0] * 3], [55, 55])) is None
