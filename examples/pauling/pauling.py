"""An energy model of one's own: Pauling's, by which a bond of unlike atoms gains the square of what their
electronegativities differ by, in eV (The Nature of the Chemical Bond, 1960, chapter 3), each atom being bonded to all
others as often as they occur."""

from functools import cache

import numpy as np
from pymatgen.core import Element

from gnome_core.ensembles.plugins import Predicted

VERSION = "1"
SHARE = 0.5  # of the energy: the interquartile range of so rough a model


@cache
def electronegativity(number: int) -> float:
    return Element.from_Z(number).X


class Pauling:
    identity = f"pauling {VERSION}"
    scale = None  # of any functional: it knows no total energies

    def predict(self, crystals, references):
        e_form = np.array([self._energy(crystal.numbers) for crystal in crystals])
        return Predicted(e_form, SHARE * np.abs(e_form))

    def _energy(self, numbers) -> float:
        """eV/atom: minus half the mean of the squared differences over all pairs of atoms."""
        values = np.array([electronegativity(int(number)) for number in numbers])
        if not np.isfinite(values).all():
            raise ValueError("it holds an element without an electronegativity")
        return -0.5 * float(np.square(values[:, None] - values[None, :]).mean())
