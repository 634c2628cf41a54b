"""Duplicates and prototypes of crystals of any kind."""

import numpy as np
import pytest
from ase.build import bulk

import gnome_core

SALT = bulk("NaCl", "rocksalt", a=5.64)
CUBIC = gnome_core.to_structures(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
MGO = gnome_core.to_crystals(bulk("MgO", "rocksalt", a=4.21))


def test_clusters_join_kinds_and_cells():
    assert gnome_core.cluster([SALT, MGO, CUBIC]).tolist() == [0, 1, 0]
    assert gnome_core.cluster([SALT, MGO, CUBIC], [-1.0, -3.0, -2.0]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="3 crystals but 1 energies"):
        gnome_core.cluster([SALT, MGO, CUBIC], np.zeros(1))


def test_prototypes_forget_the_elements_unless_asked():
    assert gnome_core.prototypes(SALT) == "AB_cF8_225_a_b"
    assert len(set(gnome_core.prototypes([SALT, MGO, CUBIC]))) == 1
    assert gnome_core.prototypes(SALT, elements=True).endswith(":Cl-Na")
