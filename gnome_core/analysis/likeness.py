"""Which elements stand for each other in crystals, by size, electronegativity and charge."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache

import numpy as np

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, NUMBERS

# Of the larger radius (Hume-Rothery 1934 for alloys, Goldschmidt 1926 for ions).
SIZE = 0.15
# Pauling units: beyond it two metals make compounds, not solutions (Darken and Gurry 1953).
MISCIBLE = 0.4
# Pauling units; with SIZE it links Zr and Hf, Nb and Ta, Ca and Sr, S and Se, not Fe and Ru, Na and K, F and Cl.
FAMILY = 0.25
# Goldschmidt: ions whose charges differ by more seldom share a site.
CHARGE = 1
RARE_EARTHS = frozenset((NUMBERS["Sc"], NUMBERS["Y"], *range(NUMBERS["La"], NUMBERS["Lu"] + 1)))


@cache
def _properties() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(95,) each, by atomic number: radius (Å; Slater, J. Chem. Phys. 41, 3199, 1964), Pauling's electronegativity,
    group; NaN where there is none."""
    from pymatgen.core import Element

    radius, electronegativity, group = np.full((3, MAX_ATOMIC_NUMBER + 1), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of pymatgen, of what it does not know
        for z in range(1, MAX_ATOMIC_NUMBER + 1):
            element = Element.from_Z(z)
            radius[z] = element.atomic_radius or np.nan
            electronegativity[z] = element.X
            group[z] = element.group
    return radius, electronegativity, group


def _like(a: int, b: int, electronegativities: float) -> bool:
    radius, electronegativity, _ = _properties()
    sizes = radius[[a, b]]
    # A comparison with NaN is false.
    return bool(
        sizes.max() - sizes.min() <= SIZE * sizes.max()
        and abs(electronegativity[a] - electronegativity[b]) <= electronegativities + 1e-9
    )


def can_mix(a: int, b: int, charges: Mapping[int, float] | None) -> bool:
    """Whether elements a and b (atomic numbers) may share a site at random: both rare earths, or alike in size and
    electronegativity; and in charge, where `charges` (of a whole composition) are known."""
    if charges is not None and abs(charges[a] - charges[b]) > CHARGE:
        return False
    return RARE_EARTHS.issuperset((a, b)) or _like(a, b, MISCIBLE)


@cache
def families() -> np.ndarray:
    """(95,) uint8: the atomic number of the first element of each element's family.

    A family is what pairs of one group, alike in size and electronegativity, link: K Rb Cs, Ca Sr Ba, Ti Zr Hf and so
    on. Scandium, yttrium and the lanthanides are one.
    """
    first = np.arange(MAX_ATOMIC_NUMBER + 1, dtype=np.uint8)
    group = _properties()[2]
    for z in range(2, MAX_ATOMIC_NUMBER + 1):
        for other in range(1, z):
            same = RARE_EARTHS.issuperset((z, other)) or (group[z] == group[other] and _like(z, other, FAMILY))
            if same and (z in RARE_EARTHS) == (other in RARE_EARTHS):
                low, high = sorted((first[z], first[other]))
                first[first == high] = low
    return first
