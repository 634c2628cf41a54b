"""What competes with a few crystals."""

import numpy as np

from gnome_core.compositions.dense import atom_counts
from gnome_core.stability.targeted import competitors, in_systems, lowest_elements

LITHIUM, OXYGEN, SULFUR, IRON = 3, 8, 16, 26
NUMBERS = [
    [LITHIUM],
    [OXYGEN],
    [LITHIUM, LITHIUM, OXYGEN],
    [LITHIUM, OXYGEN],
    [LITHIUM, IRON, OXYGEN],
    [IRON, OXYGEN],
    [IRON, SULFUR],
    [IRON],
    [OXYGEN, OXYGEN],
]
COUNTS = atom_counts([np.array(row) for row in NUMBERS])
NEAR = np.array([True, True, True, False, True, True, True, True, False])


def test_phases_of_the_system_and_its_parts():
    chosen = np.array([4])
    assert in_systems(COUNTS, chosen)[:, 0].tolist() == [True] * 6 + [False, True, True]
    assert competitors(COUNTS, NEAR, chosen).tolist() == [2, 5]
    assert competitors(COUNTS, np.ones(9, bool), chosen).tolist() == [2, 3, 5]


def test_chosen_ones_are_no_competitors_to_be_added_and_none_asks_for_none():
    assert competitors(COUNTS, np.ones(9, bool), np.array([4, 2])).tolist() == [3, 5]
    assert competitors(COUNTS, NEAR, np.zeros(0, int)).tolist() == []


def test_the_lowest_entry_of_each_element_that_has_one():
    e_form = np.array([0, 0.1, -1, -1, -1, -1, -1, 0, 0.05])
    assert lowest_elements(COUNTS, e_form, np.array([LITHIUM, OXYGEN, SULFUR, IRON])).tolist() == [0, 8, 7]
