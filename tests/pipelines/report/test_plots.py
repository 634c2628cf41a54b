"""Hull lines, cells and bonds drawn from structures whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from pipelines.report.plots import hull_diagram, lower_hull_edges
from pipelines.report.structure_view import cell_view, space_group

CSCL = Crystal(np.eye(3) * 4.12, [[0, 0, 0], [0.5, 0.5, 0.5]], [55, 17])


def test_a_binary_hull_passes_below_what_is_unstable():
    fractions = np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.4, 0.6]])
    edges, energies = lower_hull_edges(fractions, np.array([-1.0, -0.2, -0.6, 0.3]))
    assert sorted(set(edges[:, :, 1].ravel())) == [0.0, 0.5, 0.75, 1.0]
    assert energies.min() == -1.0


def test_a_ternary_compound_ties_to_all_its_neighbors():
    edges, _ = lower_hull_edges(np.array([[0.2, 0.2, 0.6]]), np.array([-1.0]))
    assert len(edges) == 6  # three sides of the triangle and three lines to the compound


def test_elements_alone_give_the_bare_triangle():
    edges, _ = lower_hull_edges(np.empty((0, 3)), np.empty(0))
    assert len(edges) == 3


def test_new_stable_points_stand_out_in_the_hull_diagram(report_data):
    binary = next(s for s in report_data.stable if s.chemsys.count("-") == 1)
    figure = hull_diagram(report_data, binary.chemsys)
    (points,) = [t for t in figure.data if t.name == "new, on the hull"]
    assert binary.e_form in points.y
    with pytest.raises(ValueError, match="4 elements"):
        hull_diagram(report_data, "Ba-Li-O-Ti")


def test_corner_atoms_are_repeated_and_only_unlike_neighbors_are_bonded():
    figure = cell_view(CSCL)
    edges, bonds, chlorine, caesium = figure.data
    assert (caesium.name, len(caesium.x)) == ("Cs", 8)
    assert (chlorine.name, len(chlorine.x)) == ("Cl", 1)
    assert len(bonds.x) == 3 * 8  # centre to eight corners: two ends and a gap each
    assert len(edges.x) == 3 * 12


def test_a_lone_atom_far_from_its_images_has_no_bonds():
    figure = cell_view(Crystal(np.eye(3) * 12.0, [[0.5, 0.5, 0.5]], [2]))
    assert len(figure.data[1].x) == 0


def test_symmetry_is_named():
    assert space_group(CSCL) == ("Pm-3m (221)", "cP2")
