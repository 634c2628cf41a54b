"""Figures of merit of a handful of jobs whose answers can be counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from gnome_core.analysis.result import Analysis
from pipelines.reading.analyses import StoredAnalysis
from pipelines.reading.discoveries import ProvenanceStep
from pipelines.reading.outcomes import JOBS
from pipelines.report.summary import _share, curses, element_residuals, headline, novel_shares, origins, summarize

# model, random, predicted, iqr, e_form, e_above_hull
ROWS = [
    (True, False, -1.00, 0.10, -1.02, -0.01),  # hit, predicted at -0.01 + 0.02 = 0.01: not among the predicted
    (True, False, -1.00, 0.10, -1.00, -0.02),  # hit, predicted
    (True, True, -1.00, 0.10, -0.90, 0.05),  # miss, predicted at -0.05; error outside the interquartile range
    (False, True, -0.50, 0.03, -0.51, 0.20),  # miss, not predicted
    (False, True, -0.50, 0.02, None, None),  # failed
]


@pytest.fixture
def summary():
    columns = list(zip(*ROWS, strict=True))
    names = ["selected_by_model", "selected_by_random", "predicted_e_form", "predicted_iqr", "e_form", "e_above_hull"]
    table = {name: [""] * len(ROWS) for name in JOBS.names} | dict(zip(names, map(list, columns), strict=True))
    table["round"] = [1] * len(ROWS)
    (found,) = summarize(pa.table(table))
    return found


def test_counts_hits_by_the_way_of_selecting(summary):
    assert (summary.model.hits, summary.model.n) == (2, 3)
    assert (summary.random.hits, summary.random.n) == (0, 3)  # the failed one is a miss
    assert summary.n_failed == 1
    assert summary.gain == np.inf


def test_precision_counts_only_what_was_predicted_on_the_hull(summary):
    assert (summary.precision.hits, summary.precision.n) == (1, 2)


def test_errors_are_median_minus_evaluation(summary):
    assert summary.mae == pytest.approx((0.02 + 0 + 0.10 + 0.01) / 4)
    assert summary.bias == pytest.approx((0.02 + 0 - 0.10 + 0.01) / 4)
    assert summary.inside_iqr == pytest.approx(3 / 4)


def test_the_interval_is_wilsons(summary):
    # Wilson (1927) for 2 of 3 at 95 %.
    assert (summary.model.low, summary.model.high) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    z2 = 1.96**2
    for found, expected in ((_share(0, 5), (0, z2 / (5 + z2))), (_share(3, 3), (3 / (3 + z2), 1))):
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-4)


def test_origins_follow_every_chain_to_its_root(report_data):
    def crystal(*steps: tuple[str, str]):
        chain = tuple(ProvenanceStep(id_, id_.upper(), 0 if not made else 1, made) for id_, made in steps)
        return dataclasses.replace(report_data.stable[0], chain=chain)

    found = origins(
        [
            crystal(("a", "substitution"), ("p", "")),
            crystal(("b", "substitution"), ("c", "saps"), ("p", "")),
            crystal(("d", "saps"), ("c", "saps"), ("q", "")),
            crystal(("e", "random_search")),
        ]
    )
    assert found.n == 4
    assert found.last == {"substitution": 2, "saps": 1, "random_search": 1}
    assert found.through == {"saps": 2, "substitution": 2, "random_search": 1}
    roots = [(root.id, root.formula, root.discoveries) for root in found.roots]
    assert roots == [("p", "P", 2), ("e", "E", 1), ("q", "Q", 1)]
    assert origins([]).n == 0


def test_the_headline_names_what_kind_of_new(report_data):
    new = [crystal for crystal in report_data.stable if crystal.novelty.level == "new"]
    below = sum(crystal.e_above_mp_hull <= 0 for crystal in new)
    assert 0 < below < len(new) < len(report_data.stable)
    said = f"{len(new)} new (unknown composition), {len(report_data.stable)} on the hull"
    mp = f"{below} of the new ones at or below the Materials Project's hull"
    assert str(headline(report_data.stable)) == f"{said}; {mp}"
    incomparable = [dataclasses.replace(crystal, e_above_mp_hull=None) for crystal in report_data.stable]
    assert str(headline(incomparable)) == said
    asked = [dataclasses.replace(c, confirmed=c is new[0], confirmed_by="nequix-oam-1, vasp") for c in incomparable]
    assert str(headline(asked)) == f"0 new, confirmed by nequix-oam-1, vasp, beside {said}"
    asked[incomparable.index(dataclasses.replace(new[0], e_above_mp_hull=None))] = dataclasses.replace(
        new[0], e_above_mp_hull=None, confirmed=True, confirmed_by="vasp"
    )
    assert str(headline(asked)) == f"1 new, confirmed by nequix-oam-1, vasp, beside {said}"
    assert str(headline([])) == "0 new (unknown composition), 0 on the hull"


def test_the_winners_curse_by_round_and_by_judge(report_data):
    table = pa.table({"round": pa.array([1, 1, 2], pa.int32()), "e_form_shift": [0.02, None, 0.06]})
    opinion = Analysis("confirm-better", "Second opinion", {"crystals": table}, {"judge": "better"})
    data = dataclasses.replace(report_data, analyses=(StoredAnalysis(opinion, 2),))
    found = {curse.round: curse for curse in curses(data)}
    assert found[1].judges == {"better": pytest.approx(0.02)}
    assert found[2].judges == {"better": pytest.approx(0.06)}
    jobs = [row for row in data.jobs.to_pylist() if row["round"] == 1 and row["e_form"] is not None]
    rises = {
        who: [row["e_form"] - row["predicted_e_form"] for row in jobs if row[f"selected_by_{who}"]]
        for who in ("model", "random")
    }
    assert found[1].model == pytest.approx(sum(rises["model"]) / len(rises["model"]))
    assert found[1].random == pytest.approx(sum(rises["random"]) / len(rises["random"]))


def test_residuals_count_a_crystal_with_each_of_its_elements(report_data):
    jobs = pa.table(
        {
            "round": [1, 1, 2],
            "id": ["a", "b", "c"],
            "formula": ["LiF", "Li2O", "LiCl"],
            "chemsys": ["F-Li", "Li-O", "Cl-Li"],
            "selected_by_model": [True] * 3,
            "selected_by_random": [False] * 3,
            "predicted_e_form": [-3.0, -2.0, -2.0],
            "predicted_iqr": [0.1] * 3,
            "e_form": [-2.9, -2.3, None],
            "e_above_hull": [0.0, 0.0, None],
            "status": ["done", "done", "not_converged"],
        }
    )
    entries = pa.table(
        {
            "id": ["x", "y"],
            "formula": ["NaF", "LiF"],
            "chemsys": ["F-Na", "F-Li"],
            "numbers": pa.array([[11, 9], [3, 9]], pa.list_(pa.uint8())),
            "e_form_per_atom": [-3.0, -2.9],
            "e_above_hull": [0.0, 0.0],
            "round": [0, 1],
            "source": ["mp", "round"],
        }
    )
    data = dataclasses.replace(report_data, jobs=jobs, hull_entries=entries)
    found = {one.element: one for one in element_residuals(data)}
    assert [one.element for one in element_residuals(data)] == ["O", "Li", "F"]
    assert (found["Li"].n, round(found["Li"].mae, 6), round(found["Li"].mean, 6)) == (2, 0.2, 0.1)
    assert (found["F"].n, round(found["F"].mean, 6)) == (1, -0.1)
    # LiF was known in round 2 only: LiCl then differs in one of two atoms; Li2O shared nothing with NaF.
    assert novel_shares(data).tolist() == [0.5, 1.0, 0.5]
