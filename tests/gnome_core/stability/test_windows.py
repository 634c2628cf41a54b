import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import GrandPotentialPhaseDiagram, PDEntry
from pymatgen.core import Composition, Element

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.stability.hull import Hull
from gnome_core.stability.windows import chemical_potential_window

PHASES = {
    "Li": 0.0, "P": 0.0, "S": 0.0, "Cl": 0.0, "Li2S": -1.5, "Li3P": -0.9, "LiCl": -2.1, "P2S5": -0.4, "Li3PS4": -1.25,
    "LiP": -0.65, "Li6PS5Cl": -1.40, "PCl3": -0.7,
}  # fmt: skip


@pytest.fixture(scope="module")
def hull() -> Hull:
    counts = np.zeros((len(PHASES), N_COLUMNS))
    for row, formula in zip(counts, PHASES, strict=True):
        for element, amount in Composition(formula).items():
            row[element.Z] = amount
    return Hull.from_entries(list(PHASES), counts, np.array(list(PHASES.values())), "test")


@pytest.mark.parametrize("formula", ["Li2S", "Li3PS4", "LiCl", "Li3P", "LiP"])
def test_equals_the_grand_potential_diagrams_of_pymatgen(hull, formula):
    """Inside the window pymatgen finds the phase on the grand-potential hull, just outside it does not."""
    low, high = chemical_potential_window(hull, list(PHASES).index(formula), 3)
    entries = [PDEntry(Composition(name), e * Composition(name).num_atoms) for name, e in PHASES.items()]

    def stable_at(potential: float) -> bool:
        diagram = GrandPotentialPhaseDiagram(entries, {Element("Li"): potential})
        return any(entry.original_entry.composition.reduced_formula == formula for entry in diagram.stable_entries)

    assert low < high <= 1e-9
    assert stable_at((low + high) / 2)
    assert not stable_at(low - 0.02)
    if high < -1e-6:
        assert not stable_at(high + 0.01)


def test_lithium_sulfide_is_stable_against_lithium_and_the_thiophosphate_is_not(hull):
    names = list(PHASES)
    assert chemical_potential_window(hull, names.index("Li2S"), 3).high == pytest.approx(0.0, abs=1e-9)
    # Li3PS4 + 5 Li -> 4 Li2S + P
    window = chemical_potential_window(hull, names.index("Li3PS4"), 3)
    energy = (4 * 3 * PHASES["Li2S"] - 8 * PHASES["Li3PS4"]) / 5
    assert window.high == pytest.approx(energy, abs=1e-6)


def test_a_phase_above_the_hull_is_taken_as_if_on_it(hull):
    names = list(PHASES)
    assert hull.entry_e_above_hull()[names.index("Li6PS5Cl")] > 0.001
    low, high = chemical_potential_window(hull, names.index("Li6PS5Cl"), 3)
    assert low <= high
    with pytest.raises(ValueError, match="P2S5 holds no element 3"):
        chemical_potential_window(hull, names.index("P2S5"), 3)
