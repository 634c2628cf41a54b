"""Hull lines drawn from entries whose answers are known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Composition

from gnome_core.compositions.formulas import chemsys
from pipelines.reading.outcomes import JOBS
from pipelines.report import plots
from pipelines.report.data import ReportData
from pipelines.report.hull_plots import hull_diagrams, lower_hull


def test_a_binary_hull_passes_below_what_is_unstable():
    fractions = np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.4, 0.6]])
    hull = lower_hull(fractions, np.array([-1.0, -0.2, -0.6, 0.3]))
    assert sorted(set(hull.edges[:, :, 1].ravel())) == [0.0, 0.5, 0.75, 1.0]
    assert hull.edge_energies.min() == -1.0
    np.testing.assert_allclose(hull.energies(fractions), [-1.0, -0.5, -0.6, -0.84])


def test_a_ternary_compound_ties_to_all_its_neighbors():
    edges = lower_hull(np.array([[0.2, 0.2, 0.6]]), np.array([-1.0])).edges
    assert len(edges) == 6  # three sides of the triangle and three lines to the compound


def test_elements_alone_give_the_bare_triangle():
    edges = lower_hull(np.empty((0, 3)), np.empty(0)).edges
    assert len(edges) == 3


def test_new_stable_points_stand_out_in_the_hull_diagram(report_data):
    binary = next(s for s in report_data.stable if s.chemsys.count("-") == 1)
    ((_, figure),) = hull_diagrams(report_data, binary.chemsys)
    (points,) = [t for t in figure.data if t.name == "new, on the hull"]
    assert binary.e_form in points.y
    with pytest.raises(ValueError, match="5 elements"):
        hull_diagrams(report_data, "Ba-Li-O-Sr-Ti")


def traces(figure) -> dict:
    return {trace.name: trace for trace in figure.data}


def test_a_ternary_discovery_is_there_after_its_round_and_not_before(report_data):
    ternary = next(s for s in report_data.stable if s.chemsys.count("-") == 2)
    (before, first), (after, second) = hull_diagrams(report_data, ternary.chemsys)
    newest = max(s.round for s in report_data.stable if s.chemsys == ternary.chemsys)
    assert (before, after) == (f"before round {newest}", f"after round {newest}")
    found = [traces(figure)["new, on the hull"].customdata or () for figure in (first, second)]
    names = [sum(s.id in text for s in report_data.stable if s.round == newest for text in texts) for texts in found]
    assert names[0] == 0
    assert names[1] > 0
    assert len(traces(second)["tie lines"].x) > len(traces(first)["tie lines"].x)


def test_corners_are_named_once():
    """Notes at the corners name the elements; an elemental entry ("F2") has a point there and no name of its own."""
    data = system(["F2", "Li", "Na", "NaF", "LiNaF2"], [0, 0, 0, 1, 2])
    for _, figure in hull_diagrams(data, "F-Li-Na"):
        written = [text for trace in figure.data if trace.text for text in trace.text if text]
        assert not {"F<sub>2</sub>", "Li", "Na"} & set(written)
        assert "NaF" in written
        assert [note.text for note in figure.layout.annotations] == ["<b>F</b>", "<b>Li</b>", "<b>Na</b>"]


def test_a_quaternary_system_is_a_tetrahedron_with_its_tie_lines():
    data = system(["F2", "Li", "Na", "O2", "NaF", "LiNaOF"], [0, 0, 0, 0, 0, 1])
    (_, before), (_, after) = hull_diagrams(data, "F-Li-Na-O")
    assert [text["text"] for text in before["texts"]] == ["F", "Li", "Na", "O"]

    def found(scene: dict) -> list[str]:
        return [ball["label"] for ball in scene["balls"] if ball["name"] == "new, on the hull"]

    def ties(scene: dict) -> int:
        return sum(line["name"] == "tie line of a new crystal" for line in scene["lines"])

    assert (found(before), found(after)) == ([], ["LiNaOF"])
    assert (ties(before), ties(after)) == (0, 5)  # to the four elements and to NaF
    assert "LiNaOF (LiNaOF), -4.000 eV/atom, 0 meV/atom above the hull" in [ball["title"] for ball in after["balls"]]


def system(formulas: list[str], rounds: list[int]) -> ReportData:
    """Hull entries of the formulas: elements at 0, every compound 1 eV/atom deeper for each element it holds."""
    numbers = [[e.Z for e, n in Composition(f).items() for _ in range(int(n))] for f in formulas]
    sizes = [len(set(row)) for row in numbers]
    entries = pa.table(
        {
            "id": formulas,
            "formula": formulas,
            "chemsys": [chemsys(row) for row in numbers],
            "numbers": pa.array(numbers, pa.list_(pa.uint8())),
            "e_form_per_atom": [0.0 if k == 1 else -1.0 * k for k in sizes],
            "e_above_hull": np.zeros(len(formulas)),
            "round": rounds,
            "source": ["test"] * len(formulas),
        }
    )
    return ReportData("", "test", (), JOBS.empty_table(), entries, (), (), {}, {})


def test_the_funnel_narrows(report_data):
    drawn = plots.funnel(report_data).data
    assert [trace.name for trace in drawn] == ["round 1", "round 2"]
    for trace in drawn:
        assert list(trace.x) == ["generate", "score", "select", "emit", "evaluate", "ingest"]
        assert list(trace.y) == sorted(trace.y, reverse=True)
