"""Crystals at any distance and density: real ones and nonsense."""

import numpy as np

from gnome_core.crystals.crystal import Crystal

# A tetrahedral molecule of chromium and fluorine, bonds of 1.76 Å; atoms of their crystals fill 58 Å^3.
MOLECULE = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.76 / np.sqrt(3)


def tetrafluoride(volume_per_atom: float) -> Crystal:
    edge = (5 * volume_per_atom) ** (1 / 3)
    return Crystal(edge * np.eye(3), MOLECULE / edge, [24, 9, 9, 9, 9])


def slab(gap: float) -> Crystal:
    """A square layer of copper two atoms thick, `gap` Å from its images."""
    return Crystal(np.diag([2.56, 2.56, 1.8 + gap]), [[0, 0, 0], [0.5, 0.5, 1.8 / (1.8 + gap)]], [29, 29])


def row(gap: float) -> Crystal:
    """Straight rows of copper, `gap` Å apart."""
    return Crystal(np.diag([2.5, gap, gap]), [[0, 0, 0]], [29])


def salt(distance: float) -> Crystal:
    """Rock salt of sodium and chlorine."""
    return Crystal(distance * (1 - np.eye(3)), [[0, 0, 0], [0.5] * 3], [11, 17])
