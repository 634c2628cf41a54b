import numpy as np
from pymatgen.core import Composition

from gnome_core.compositions.formulas import NUMBERS, SYMBOLS
from gnome_core.generation.charge_guess import most_probable_charges

# Ions of many states, of one, rare earths, a noble gas, and those that make sums of equal score.
ELEMENTS = ["H", "Li", "C", "N", "O", "Na", "Al", "P", "S", "Cl", "Ar", "Fe", "Cu", "Mn", "As", "Eu", "Ca", "V"]


def test_pymatgen_says_the_same():
    rng = np.random.default_rng(0)
    neutral = 0
    for _ in range(200):
        chosen = sorted(NUMBERS[s] for s in rng.choice(ELEMENTS, rng.integers(2, 5), replace=False))
        key = tuple((z, int(n)) for z, n in zip(chosen, rng.integers(1, 6, len(chosen)), strict=True))
        theirs = Composition({SYMBOLS[z]: n for z, n in key}).oxi_state_guesses()
        ours = most_probable_charges(key)
        assert (ours and {SYMBOLS[z]: charge for z, charge in ours.items()}) == (theirs[0] if theirs else None), key
        neutral += ours is not None
    assert 50 < neutral < 190


def test_large_cells_are_guessed_too():
    """pymatgen tries 10^8 choices here."""
    aluminosilicate = ((8, 108), (12, 12), (13, 25), (14, 29), (55, 1))
    assert most_probable_charges(aluminosilicate) == {8: -2, 12: 2, 13: 3, 14: 4, 55: 1}
    assert most_probable_charges(((20, 20), (29, 39))) is None


def test_an_element_is_neutral():
    assert most_probable_charges(((26, 4),)) == {26: 0.0}
