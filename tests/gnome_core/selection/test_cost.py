import re

import numpy as np
import pytest
from monty.serialization import loadfn
from pymatgen.io import vasp
from pymatgen.io.vasp.sets import MPRelaxSet

from gnome_core.compositions.dense import atom_counts
from gnome_core.selection.cost import VALENCE_ELECTRONS, dft_cost


def test_electrons_are_those_of_the_relaxation_sets_potentials():
    stats = loadfn(f"{vasp.__path__[0]}/potcar-summary-stats.json.bz2")["PBE"]
    found: dict[str, set[float]] = {}
    for title, potentials in stats.items():
        if name := re.fullmatch(r"PAW_PBE(.+?)(\d\d[A-Z][a-z]{2}\d{4})?", title):
            found.setdefault(name.group(1), set()).update(p["ZVAL"] for p in potentials)
    potentials = MPRelaxSet.CONFIG["POTCAR"]
    known = [symbol for symbol in VALENCE_ELECTRONS if symbol in potentials]
    assert len(known) == 89
    assert all(VALENCE_ELECTRONS[symbol] in found[potentials[symbol]] for symbol in known)


def test_cost_grows_with_the_square_of_the_electrons():
    counts = atom_counts([np.array([14, 14]), np.array([14] * 4), np.array([3, 8])])
    assert dft_cost(counts) == pytest.approx([1.0, 4.0, (3 + 6) ** 2 / 64])
