import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.prototypes import protostructure_label, prototype_of

FCC = np.ones((3, 3)) - np.eye(3)
ROCKSALT = Crystal(FCC * 2.1, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])


def test_rock_salt_in_any_cell_and_setting():
    conventional = Crystal(
        np.eye(3) * 4.2,
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5] * 3, [0, 0, 0.5], [0, 0.5, 0], [0.5, 0, 0]],
        [11] * 4 + [17] * 4,
    )
    labels = [protostructure_label(c) for c in (ROCKSALT, conventional)]
    assert labels == ["AB_cF8_225_a_b:Mg-O", "AB_cF8_225_a_b:Cl-Na"]
    assert prototype_of(labels[0]) == prototype_of(labels[1])


def test_perovskites_are_one_prototype_whichever_ion_is_named_first():
    cubic = Crystal(
        np.eye(3) * 3.9, [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], [38, 22, 8, 8, 8]
    )
    swapped = Crystal(cubic.lattice, cubic.frac_coords, [22, 38, 8, 8, 8])
    prototypes = {prototype_of(protostructure_label(crystal)) for crystal in (cubic, swapped)}
    assert len(prototypes) == 1
    assert prototypes != {prototype_of(protostructure_label(ROCKSALT))}


def test_a_crystal_without_symmetry_still_has_a_label_and_a_broken_one_none():
    rng = np.random.default_rng(0)
    odd = Crystal(np.diag([4.0, 5.0, 6.0]), rng.random((4, 3)), [22, 22, 8, 8])
    assert protostructure_label(odd).startswith("AB_aP4_1_")
    assert protostructure_label(Crystal(np.eye(3), np.zeros((2, 3)), [1, 1])) is None


def test_a_slightly_distorted_crystal_keeps_its_prototype():
    strained = Crystal(ROCKSALT.lattice * [1.003, 1.0, 1.0], ROCKSALT.frac_coords + [[0.002] * 3, [0] * 3], [12, 8])
    assert protostructure_label(strained) == "AB_cF8_225_a_b:Mg-O"
