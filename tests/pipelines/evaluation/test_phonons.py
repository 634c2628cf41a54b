"""Phonons of many crystals: every one is a row, whatever ends the run."""

import numpy as np
import pytest

from dft.evaluators.potential import PotentialEvaluator
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.potential import UnknownElement
from pipelines.errors import UserError
from pipelines.evaluation.phonons import PHONON_SCHEMA, phonons, primitive_cells, relaxed_cells
from pipelines.evaluation.relaxing import KeptBatches
from tests.gnome_core.potentials.samples import COPPER, FCC
from tests.gnome_core.potentials.springs import Springs

pytest.importorskip("phonopy")
BOND = 3.6 / np.sqrt(2)
SILVER = Crystal(COPPER.lattice, COPPER.frac_coords, [47])
ROWS = Crystal(BOND / 1.05 * np.eye(3), [[0, 0, 0]], [29])  # of squeezed springs: they give way sideways
NONE = KeptBatches(None)
GOLD = Crystal(4 * FCC, [[0, 0, 0]], [79])


class Picky(Springs):
    def check(self, crystal):
        if 79 in crystal.numbers:
            raise UnknownElement("no spring is known for Au")


class Sprung(PotentialEvaluator):
    def __init__(self):
        super().__init__("springs", RelaxConfig(fmax=1e-3, max_steps=50))
        self.__dict__["potential"] = Picky(BOND)

    def relaxed_as_given(self, crystals, kept):
        """Fixed cells: those of the squeezed rows would grow."""
        self.config = RelaxConfig(fmax=1e3, max_steps=1)
        return relaxed_cells(self, crystals, kept)


def test_every_crystal_is_a_row_with_an_answer_or_a_reason():
    evaluator, told = Sprung(), []
    results = evaluator.relaxed_as_given([COPPER, GOLD, ROWS, SILVER], NONE)
    table = phonons(evaluator, list("abcd"), results, 5.0, 0.1, NONE, progress=told.append)
    assert table.schema.equals(PHONON_SCHEMA, check_metadata=True)
    assert table["id"].to_pylist() == list("abcd")
    assert table["status"].to_pylist() == ["done", "unknown_element", "done", "done"]
    assert table["dynamically_stable"].to_pylist() == [True, None, False, True]
    assert table["message"][1].as_py() == "no spring is known for Au"
    assert sum(told) == 4
    stable, _, unstable, heavy = table["lowest_frequency"].to_pylist()
    assert heavy / stable == pytest.approx(np.sqrt(63.546 / 107.868), rel=1e-3)
    assert unstable < -0.5
    assert table["heat_capacity"][3].as_py() > table["heat_capacity"][0].as_py() > table["heat_capacity"][2].as_py()


def test_the_tolerance_is_what_the_caller_says():
    evaluator = Sprung()
    results = evaluator.relaxed_as_given([ROWS], NONE)
    assert phonons(evaluator, ["a"], results, 5.0, 5.0, NONE)["dynamically_stable"].to_pylist() == [True]


def test_a_run_that_ended_goes_on_with_equal_rows(tmp_path):
    evaluator, kept = Sprung(), KeptBatches(tmp_path / "parts")
    results = evaluator.relaxed_as_given([COPPER, SILVER], kept)
    whole = phonons(evaluator, ["a", "b"], results, 5.0, 0.1, NONE)
    cost = evaluator.potential.evaluated

    class Ended(BaseException):
        """Stands for SIGKILL."""

    def end(_):
        raise Ended

    with pytest.raises(Ended):
        phonons(evaluator, ["a", "b"], results, 5.0, 0.1, kept, progress=end)  # after the first crystal
    between = evaluator.potential.evaluated
    again = phonons(evaluator, ["a", "b"], results, 5.0, 0.1, kept)
    assert again.equals(whole)
    assert evaluator.potential.evaluated - between == between - cost  # of one crystal, not of two
    asked = evaluator.potential.evaluated
    assert phonons(evaluator, ["a", "b"], results, 5.0, 0.1, kept).equals(whole)
    assert evaluator.potential.evaluated == asked
    phonons(evaluator, ["a", "b"], results, 6.0, 0.1, kept)  # another supercell is another answer
    assert evaluator.potential.evaluated > asked


def test_cells_are_primitive_and_relaxed_within_their_symmetry():
    cubic = Crystal(3.7 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], [29] * 4)
    (cell,) = primitive_cells([cubic])
    assert cell.n_sites == 1
    (row,) = relaxed_cells(Sprung(), [cell], NONE).to_pylist()
    assert row["status"] == "done"
    lengths = np.linalg.norm(np.reshape(row["lattice"], (3, 3)), axis=1)
    assert lengths == pytest.approx([BOND] * 3, abs=1e-3)


def test_evaluators_without_forces_are_refused_by_name():
    class Other:
        name = "ase:x:y"

    with pytest.raises(UserError, match="ase:x:y"):
        phonons(Other(), [], None, 5.0, 0.1, NONE)
