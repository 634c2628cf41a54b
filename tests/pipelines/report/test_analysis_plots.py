"""Pictures and tables of analyses."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from markupsafe import escape

from gnome_core.analysis.result import Analysis
from pipelines.analyses import ANALYSES
from pipelines.reading.analyses import StoredAnalysis
from pipelines.report.analysis_plots import FIGURES, figures
from pipelines.report.page import render
from tests.pipelines.report.analyses import every_analysis


@pytest.fixture(scope="module")
def analyses(report_data):
    return {analysis.name: analysis for analysis in every_analysis(report_data.jobs)}


def test_every_analysis_has_pictures_with_points_in_them(analyses):
    assert set(analyses) == set(ANALYSES) == set(FIGURES) - {"replay", "confirm"}
    for name, analysis in analyses.items():
        pictures = figures(analysis)
        assert pictures, name
        for caption, figure in pictures:
            assert caption[0].isupper()
            points = [value for trace in figure.data for value in (trace.x if trace.x is not None else ())]
            assert points, (name, caption)


def test_bars_are_the_numbers_of_the_tables(analyses):
    (_, bars), *_ = figures(analyses["growth"])
    stable = {trace.name: dict(zip(trace.x, trace.y, strict=True)) for trace in bars.data}
    rows = analyses["growth"].tables["counts"].to_pylist()
    for row in rows:
        name = f"{row['elements']} elements" if row["elements"] > 1 else "one element"
        assert stable.get(name, {}).get(str(row["round"]), 0) == row["stable"]
    (_, waterfall), *_ = figures(analyses["li-conductors"])
    left = next(trace for trace in waterfall.data if trace.name == "left")
    assert list(left.x) == [row["left"] for row in analyses["li-conductors"].tables["waterfall"].to_pylist()]


def test_the_report_opens_with_the_waterfall(report_data, analyses):
    analysis = analyses["credibility"]
    crystals = analysis.tables["crystals"]
    ids = pa.array([one.id for one in report_data.stable[: len(crystals)]])
    crystals = crystals.set_column(crystals.column_names.index("id"), "id", ids)
    stored = StoredAnalysis(dataclasses.replace(analysis, tables={**analysis.tables, "crystals": crystals}), 2)
    page = render(dataclasses.replace(report_data, credibility=stored))
    first, *others = page.partition("<main")[2].split("<section ")[1:]
    assert first.startswith('id="discoveries"')
    assert others[0].startswith('id="hulls"')
    for row in stored.analysis.tables["waterfall"].to_pylist():
        assert f'<th scope="row">{escape(row["filter"])!s}</th><td class="n">{row["left"]}</td>' in first
    assert 'title="composition: known composition: mp, oqmd"' in first
    passed = sum(crystals["credible"].to_pylist())
    assert f"<dt>pass every check</dt><dd>{passed}</dd>" in first
    assert first.count("passes all ") == passed > 0
    assert "credibility-0" in first


def test_a_second_opinion_is_drawn_beside_the_first():
    rows = {"formula": ["MgO", "CaS", "LiF"], "novelty": ["new", "known composition", "new"]}
    rows |= {"e_above_hull": [-0.02, 0.01, None], "e_above_hull_shift": [0.03, 0.02, None], "round": [1, 1, 2]}
    ((caption, figure),) = figures(Analysis("confirm-nequix-oam-1", "Second opinion", {"crystals": pa.table(rows)}))
    assert "by each judge on its own hull" in caption
    points = {trace.name: (*trace.x, *trace.y, *trace.text) for trace in figure.data}
    assert points["unknown composition"] == (pytest.approx(-50), pytest.approx(-20), "MgO")
    assert points["known"] == (pytest.approx(-10), pytest.approx(10), "CaS")


def test_an_empty_table_has_no_picture(analyses):
    displaced = analyses["displaced"]
    assert len(displaced.tables["displaced"])
    empty = dataclasses.replace(displaced, tables={"displaced": displaced.tables["displaced"].slice(0, 0)})
    assert figures(empty) == []


def test_the_report_says_which_round_an_analysis_is_of(report_data, analyses):
    stored = (StoredAnalysis(analyses["novelty"], 1), StoredAnalysis(analyses["r2scan"], 2))
    page = render(dataclasses.replace(report_data, analyses=stored))
    old, new = page.partition('id="analysis-novelty"')[2].split('id="analysis-r2scan"')
    assert "Made of the hull of round 1; newer rounds are not in it." in old
    assert "Made of the hull of round 2. " in new
    assert '<section id="analyses"' in page
    assert "known composition" in old


def test_novelty_kept_by_an_older_version_is_drawn_in_its_words(analyses):
    summary = {"crystals": 6, "known crystals": 9, "new composition": 3, "new structure": 2, "known": 1}
    ((_, figure),) = figures(dataclasses.replace(analyses["novelty"], summary=summary))
    assert list(figure.data[0].x) == ["new composition", "new structure", "known"]
    assert list(figure.data[0].y) == [3, 2, 1]
