import itertools

import numpy as np
import pytest
from pymatgen.core import Composition

from gnome_core.compositions.formulas import NUMBERS, SYMBOLS
from gnome_core.generation.oxidation import can_be_neutral, systems_pass

RATIOS = np.array([c for c in itertools.product(range(1, 6), repeat=3) if np.gcd.reduce(c) == 1])


def counts(formula: str) -> np.ndarray:
    row = np.zeros(95, int)
    for element, n in Composition(formula).items():
        row[element.Z] = int(n)
    return row


@pytest.mark.parametrize("rule", ["relaxed", "ordered", "literal"])
@pytest.mark.parametrize("formula", ["NaCl", "Fe3O4", "Li15Si4", "LiFePO4", "Na2O2", "Ni3Al", "La2F3"])
def test_balanced_mixed_valent_and_metallic_compositions_pass(formula, rule):
    assert can_be_neutral(counts(formula)[None], rule).all()


@pytest.mark.parametrize(
    ("formula", "passes"),
    [("NaCl", True), ("LiFePO4", True), ("Fe2O3", True), ("Li15Si4", False), ("Fe3O4", False), ("MgAl", False)],
)
def test_strict_asks_for_one_charge_an_element(formula, passes):
    assert can_be_neutral(counts(formula)[None], "strict")[0] == passes


@pytest.mark.parametrize("formula", ["MgF4", "ZrF7", "CaF3", "ScF6"])
def test_compositions_beyond_every_common_charge_fail(formula):
    assert not can_be_neutral(counts(formula)[None], "relaxed").any()
    assert can_be_neutral(counts(formula)[None], "literal").all()


@pytest.mark.parametrize("formula", ["CaO3", "NaCl2"])
def test_ordered_keeps_the_most_electronegative_element_an_anion(formula):
    assert can_be_neutral(counts(formula)[None], "relaxed").all()
    assert not can_be_neutral(counts(formula)[None], "ordered").any()


def test_rows_are_judged_one_by_one():
    rows = np.array([counts("NaCl"), counts("NaCl2"), counts("Li15Si4"), counts("LiFePO4"), counts("ArO2")])
    assert can_be_neutral(rows, "ordered").tolist() == [True, False, True, True, False]
    assert can_be_neutral(rows, "strict").tolist() == [True, False, False, True, False]
    assert not can_be_neutral(np.zeros((1, 95), int)).any()


def test_a_composition_alone_passes_strictly_as_its_system_does():
    """Any elements, those without charges or electronegativity and equally electronegative ones among them."""
    rng = np.random.default_rng(0)
    agreed = 0
    for _ in range(400):
        system = np.sort(rng.choice(np.arange(1, 95), rng.integers(1, 6), replace=False))
        ratios = rng.integers(1, 7, (5, len(system)))
        rows = np.zeros((5, 95), int)
        rows[:, system] = ratios
        passed = systems_pass(system[None], ratios, "strict")[0]
        assert can_be_neutral(rows, "strict").tolist() == passed.tolist()
        agreed += int(passed.sum())
    assert agreed > 100


def test_relaxed_is_the_rule_spelled_out():
    """Charges and zero for metals, one or two elements anywhere between adjacent charges: every assignment tried."""
    import smact

    def charges(symbol: str) -> list[int]:
        zero = {0} if symbol in smact.metals else set()
        return sorted(set(smact.Element(symbol).oxidation_states_smact14 or ()) | zero)

    def spelled_out(system: tuple[str, ...]) -> np.ndarray:
        fixed = [[(q, q) for q in charges(symbol)] for symbol in system]
        between = [list(itertools.pairwise(charges(symbol))) for symbol in system]
        passed = np.zeros(len(RATIOS), bool)
        for free in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in range(3)):
            for choice in itertools.product(*(between[i] if i in free else fixed[i] for i in range(3))):
                low, high = np.array(choice).T
                passed |= (RATIOS @ low <= 0) & (RATIOS @ high >= 0)
        return passed

    rng = np.random.default_rng(0)
    known = [symbol for symbol in SYMBOLS[1:84] if smact.Element(symbol).oxidation_states_smact14]
    systems = [tuple(rng.choice(known, 3, replace=False)) for _ in range(40)]
    numbers = np.array([[NUMBERS[symbol] for symbol in system] for system in systems])
    found = systems_pass(numbers, RATIOS, "relaxed")
    assert np.array_equal(found, np.stack([spelled_out(system) for system in systems]))
    assert 0 < found.mean() < 1


def test_strict_is_smact_filter():
    import smact
    from smact.screening import smact_filter

    rng = np.random.default_rng(1)
    known = [symbol for symbol in SYMBOLS[1:90] if smact.Element(symbol).oxidation_states_smact14]
    systems = [*(tuple(rng.choice(known, 3, replace=False)) for _ in range(25)), ("Li", "Pm", "O"), ("F", "Cl", "O")]
    numbers = np.array([[NUMBERS[symbol] for symbol in system] for system in systems])
    found = systems_pass(numbers, RATIOS, "strict")
    for system, row in zip(systems, found, strict=True):
        elements = [smact.Element(symbol) for symbol in system]
        allowed = smact_filter(elements, threshold=5, species_unique=False, oxidation_states_set="smact14")
        assert {tuple(ratio) for ratio in RATIOS[row].tolist()} == {ratio for _, ratio in allowed}, system
    whole = np.zeros((len(systems), 95), int)
    np.put_along_axis(whole, numbers, RATIOS[7][None], axis=1)
    assert np.array_equal(can_be_neutral(whole, "strict"), found[:, 7])
