"""How large the atoms of a composition are: the volume they fill, and how near two of them may come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gnome_core.compositions.formulas import Composition
from gnome_core.generation.parents import oxidation_states
from gnome_core.generation.volume import atomic_volumes

# Shares of the sums of radii. In 1,500 Materials Project crystals at most about one contact in twenty of a pair of
# elements is shorter, anions bound to each other apart.
OF_VOLUME_RADII = 0.75
OF_COVALENT_RADII = 0.8


@dataclass(frozen=True, eq=False)
class Spheres:
    """The atoms of a composition as spheres, at the volume that `volume.py` expects.

    numbers: (k,) atomic numbers, ascending. volumes: (k,) Å^3 an atom. separations: (k, k) Å, shortest distances.
    At f times the volume the separations are f^(1/3) times as long, so that every volume can be packed alike.
    """

    numbers: np.ndarray
    volumes: np.ndarray
    separations: np.ndarray


@lru_cache(maxsize=1 << 14)
def spheres(key: Composition) -> Spheres:
    """Spheres of a reduced composition ((Z, count), ...).

    A volume radius is that of a sphere of the atom's volume (by element, and cation, anion or neutral by the guessed
    oxidation state). Atoms of like charge keep 0.75 of the sum of their volume radii apart; others the shorter of that
    and 0.8 of the sum of their covalent radii (Cordero et al., Dalton Trans. 2008, 2832), for bonds are shorter.
    """
    from ase.data import covalent_radii

    charges = oxidation_states(key)
    numbers = np.array([z for z, _ in key])
    sign = np.sign([charges[z] for z in numbers.tolist()])
    volumes = atomic_volumes()[sign, numbers]
    radii = (3 * volumes / (4 * np.pi)) ** (1 / 3)
    apart = OF_VOLUME_RADII * (radii[:, None] + radii)
    bonded = np.minimum(apart, OF_COVALENT_RADII * (covalent_radii[numbers][:, None] + covalent_radii[numbers]))
    return Spheres(numbers, volumes, np.where(sign[:, None] * sign > 0, apart, bonded))
