"""A second judge's hull: worked by hand, for crystals of magnesium, oxygen and sulfur."""

import numpy as np
import pyarrow as pa
import pytest

from gnome_core.analysis.confirmation import Opinion, analyse, consensus, name_of
from gnome_core.stability.references import ElementalReferences
from tests.gnome_core.analysis.samples import any_cell, entries_of

REFERENCES = ElementalReferences("judge", {12: -1.0, 8: -4.0, 16: -3.0})
DECISIVE = np.array([True, True, True, False, True])  # MgS2 is not
FORMULAS = ["MgO", "MgS", "MgSO4", "MgS2", "Mg2SO"]


def opinion(e_form: list[float], references: ElementalReferences = REFERENCES) -> Opinion:
    """Energies that give these formation energies; NaN failed."""
    cells = [any_cell(formula) for formula in FORMULAS]
    elements = [np.mean([REFERENCES.energies[int(z)] for z in cell.numbers]) for cell in cells]
    energies = np.array(e_form) + elements
    status = ["done" if np.isfinite(energy) else "not_converged" for energy in energies]
    return Opinion("nequix", references, energies, status, ["" if s == "done" else "300 steps" for s in status])


@pytest.fixture(scope="module")
def entries() -> pa.Table:
    """Of two discoveries, MgSO4 and Mg2SO, and of the snapshot."""
    table = entries_of([any_cell(f) for f in FORMULAS], [-3.0, -1.8, -2.4, -0.5, -2.6], [0, 0, 1, 0, 2], FORMULAS)
    table = table.append_column("e_above_hull_others", pa.array([-3.0, -1.8, -0.9, 0.7, -0.2]))
    return table.append_column("novelty", pa.array(["known structure"] * 2 + ["new", "known structure", "new"]))


def rows_of(analysis) -> dict[str, dict]:
    return {row["id"]: row for row in analysis.tables["crystals"].to_pylist()}


def test_both_on_one_scale_of_the_judge(entries):
    # MgO and MgS, half of the atoms each, lie at -2.4: Mg2SO is 0.1 above them, by this judge.
    analysis = analyse(entries, np.array([2, 4]), DECISIVE, opinion([-3.0, -1.8, -2.3, -0.5, -2.3]))
    found = rows_of(analysis)
    assert found["Mg2SO"]["confirmed"] is False
    assert found["Mg2SO"]["e_above_hull"] == pytest.approx(0.1)
    assert found["Mg2SO"]["why"] == "+0.100 eV/atom: Mg2SO -> MgO + MgS"
    assert found["Mg2SO"]["e_form_shift"] == pytest.approx(0.3)
    assert found["Mg2SO"]["e_above_hull_shift"] == pytest.approx(0.3)
    # Against MgO, sulfur and oxygen: 2/6 of the atoms at -3.
    assert found["MgSO4"]["confirmed"] is True
    assert found["MgSO4"]["e_above_hull"] == pytest.approx(-1.3)
    assert found["MgSO4"]["competitors"] == 4
    assert analysis.summary["of these confirmed"] == 1
    assert analysis.summary["share of these, of those answered"] == 0.5
    assert analysis.summary["mean shift of their formation energy (eV/atom)"] == pytest.approx(0.2)
    assert analysis.summary["at or below MP's hull, by this judge"] is None
    assert len(analysis.tables["phases"]) == len(FORMULAS)


def test_a_missing_competitor_can_refute_but_not_confirm(entries):
    found = rows_of(analyse(entries, np.array([2, 4]), DECISIVE, opinion([-3.0, np.nan, -2.3, -0.5, -2.3])))
    assert found["MgSO4"]["confirmed"] is None
    assert found["MgSO4"]["why"] == "-1.300 eV/atom, without an energy of MgS"
    high = rows_of(analyse(entries, np.array([2, 4]), DECISIVE, opinion([-3.0, np.nan, -0.5, -0.5, -2.3])))
    assert high["MgSO4"]["confirmed"] is False
    above_hull = rows_of(analyse(entries, np.array([2, 4]), DECISIVE, opinion([-3.0, -1.8, -2.3, np.nan, -2.3])))
    assert above_hull["MgSO4"]["confirmed"] is True  # MgS2 decides nothing


def test_a_discovery_without_energy_or_reference_has_no_answer(entries):
    found = rows_of(analyse(entries, np.array([2, 4]), DECISIVE, opinion([-3.0, -1.8, np.nan, -0.5, -2.3])))
    assert found["MgSO4"]["confirmed"] is None
    assert found["MgSO4"]["why"] == "not_converged: 300 steps"
    lacking = ElementalReferences("judge", {12: -1.0, 8: -4.0})
    none = rows_of(analyse(entries, np.array([2]), DECISIVE, opinion([-3.0, -1.8, -2.3, -0.5, -2.3], lacking)))
    assert none["MgSO4"]["why"] == "no_reference: no energy of the element S"


def test_consensus_needs_every_answer_and_the_name_is_a_files():
    assert consensus([True, None, True]) is True
    assert consensus([True, False]) is False
    assert consensus([None]) is None
    assert name_of("ase:my judge/mace.py:medium") == "confirm-ase_my_judge_mace.py_medium"
