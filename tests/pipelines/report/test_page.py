"""The written page: its structure, its escaping, its numbers, and that it asks for nothing outside itself."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest

from pipelines.reading.discoveries import ProvenanceStep
from pipelines.report.data import ReportData, StageCounts
from pipelines.report.page import render, write_report
from pipelines.report.summary import search_hits

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Document(HTMLParser):
    """Collects every element and checks that tags nest; script text is kept apart."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.scripts = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def text(report_data) -> str:
    return render(report_data)


@pytest.fixture(scope="module")
def document(text) -> Document:
    return Document(text)


def test_has_every_section_and_navigation_to_it(document):
    ids = [attrs["id"] for attrs in document.all("section")]
    titles = ["summary", "funnel", "candidates", "random-search", "hit-rate", "accuracy", "calibration", "hulls"]
    assert ids == [*titles, "crystals", "provenance", "timings", "config"]
    assert [attrs["href"] for attrs in document.all("a")] == [f"#{i}" for i in ids]


def test_loads_nothing_from_outside(document):
    assert not [attrs for _, attrs in document.elements if "src" in attrs]
    assert not document.all("link")
    assert all(attrs["href"].startswith("#") for attrs in document.all("a"))
    policy = next(a["content"] for a in document.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_plotly_is_inlined_once(text):
    assert len(re.findall(r"plotly\.js v\d", text)) == 1


def test_every_figure_is_valid_named_and_described(document):
    figures = json.loads(document.scripts[0])
    places = [attrs for attrs in document.all("div") if "data-figure" in attrs]
    assert {place["data-figure"] for place in places} == set(figures)
    assert {"funnel", "generated", "hit-rate", "parity", "coverage", "spread", "members", "timings"} <= set(figures)
    assert {"search-volumes", "curves"} <= set(figures)
    (bars,) = figures["search-volumes"]["data"]
    assert bars["y"] == [30.0, pytest.approx(100 * 9 / 14)]
    assert all(place["role"] == "img" and place["aria-label"] for place in places)
    for figure in figures.values():
        go.Figure(figure)


def test_every_crystal_row_has_a_valid_view(document, report_data):
    views = json.loads(document.scripts[1])
    rows = [attrs for attrs in document.all("tr") if "data-view" in attrs]
    assert len(rows) == len(report_data.stable) == len(views)
    assert {row["data-view"] for row in rows} == set(views)
    for view in views.values():
        go.Figure(view["figure"])


def test_crystals_say_who_knows_their_composition_and_how_they_stand_on_the_published_hull(text, report_data):
    rows = section(text, "crystals", "provenance")
    known = [crystal for crystal in report_data.stable if crystal.novelty.level != "new"]
    assert rows.count("known composition <small>mp, oqmd</small>") == len(known) > 0
    assert rows.count(" ± 59") == len(report_data.stable)
    assert f"{len(report_data.stable) - len(known)} new (unknown composition), " in rows
    none = {"e_above_mp_hull": None, "e_above_mp_hull_uncertainty": None}
    apart = tuple(dataclasses.replace(crystal, **none) for crystal in report_data.stable)
    assert "±" not in section(render(dataclasses.replace(report_data, stable=apart)), "crystals", "provenance")


def test_tables_have_captions_and_scoped_headers(document):
    assert len(document.all("table")) == len(document.all("caption"))
    assert {attrs["scope"] for attrs in document.all("th")} == {"col", "row"}


def test_strings_from_the_data_are_escaped(report_data):
    evil = '</script><img src=x onerror="alert(1)">'
    first = report_data.stable[0]
    chain = (dataclasses.replace(first.chain[0], formula=evil, id=evil), *first.chain[1:])
    stable = dataclasses.replace(first, id=evil, formula=evil, chain=chain)
    jobs = report_data.jobs.set_column(2, "formula", [[evil] * len(report_data.jobs)])
    text = render(
        dataclasses.replace(
            report_data,
            title=evil,
            scale=evil,
            stable=(stable, *report_data.stable[1:]),
            jobs=jobs,
            config={"note": evil},
            versions={evil: evil},
            stages=(*report_data.stages, StageCounts(3, evil, 1, 0, {evil: 1})),
        )
    )
    assert not Document(text).all("img")
    assert "<img" not in re.sub(r"(?s)<script.*", "", text)


def test_searched_compositions_are_told_by_round_and_one_by_one(text, report_data):
    section = text[text.index('<section id="random-search"') :]
    section = re.sub(r"<[^>]*>", " ", section[: section.index("</section>")])
    words = " ".join(section.split())
    assert "24 (60.0 %)" in words, "packed"
    assert "12 (50.0 %)" in words, "converged"
    assert "1 of 1" in words, "hits of the model's choices"
    assert "0 of 1" in words, "and of chance's"
    assert "61, 1 by search alone" in words
    assert search_hits(report_data.searches[0], by_random=False).hits == 1


def test_an_unbalanced_stage_is_shown_as_such(report_data):
    lossy = dataclasses.replace(report_data, stages=(StageCounts(1, "score", 10, 8, {"duplicate": 1}),))
    assert "<strong>no</strong>" in render(lossy)
    assert "<strong>no</strong>" not in render(report_data)


def test_a_store_without_rounds_still_gives_a_report(report_data):
    empty = ReportData(
        title="new store",
        scale="chgnet-0.3.0",
        stages=tuple(s for s in report_data.stages if s.round == 0),
        jobs=report_data.jobs.slice(0, 0),
        hull_entries=report_data.hull_entries,
        stable=(),
        members=(),
        config={},
        versions={},
    )
    assert "Nothing has been evaluated yet." in render(empty)


def test_provenance_names_the_ions_that_changed(report_data):
    chain = (
        ProvenanceStep("a1", "K2O", 1, "substitution", {"Na": "K"}),
        ProvenanceStep("mp-1", "Na2O", 0),
    )
    text = render(dataclasses.replace(report_data, stable=(dataclasses.replace(report_data.stable[0], chain=chain),)))
    provenance = text[text.index('id="provenance"') : text.index('id="timings"')]
    assert "substitution: Na → K" in provenance
    provenance = provenance[provenance.index("<ol") :]
    assert provenance.index("K<sub>2</sub>O") < provenance.index("Na → K") < provenance.index("Na<sub>2</sub>O")


def test_writes_the_same_bytes_twice(report_data, tmp_path):
    paths = [write_report(report_data, tmp_path / name / "report.html") for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_table_without_a_column_is_refused_by_name(report_data):
    with pytest.raises(ValueError, match=r"jobs lacks the columns predicted_iqr"):
        dataclasses.replace(report_data, jobs=report_data.jobs.drop_columns(["predicted_iqr"]))


def test_a_table_with_text_for_energies_is_refused(report_data):
    wrong = report_data.jobs.set_column(8, "e_form", [["x"] * len(report_data.jobs)])
    with pytest.raises(ValueError, match="jobs has a column of the wrong type"):
        dataclasses.replace(report_data, jobs=wrong)


def section(text: str, key: str, after: str) -> str:
    return text[text.index(f'id="{key}"') : text.index(f'id="{after}"')]


def test_candidates_are_counted_by_generator_and_number_of_elements(text):
    candidates = section(text, "candidates", "hit-rate")
    assert "30,000" in candidates
    assert "80.0 %" in candidates  # 800 of the 1,000 scored binaries by substitution
    assert "21.5 % of the scored are" in candidates
    assert "3,550 (98.6 %)" in candidates
    assert "could be packed of CsLi<sub>7</sub>." in candidates


def test_what_was_not_generated_is_not_shown(report_data):
    empty = render(dataclasses.replace(report_data, generated=(), compositions=(), unpacked=()))
    assert "Nothing has been generated yet" in section(empty, "candidates", "hit-rate")
    plain = section(render(dataclasses.replace(report_data, compositions=(), unpacked=())), "candidates", "hit-rate")
    assert "oxidation rule" not in plain


def test_cells_without_a_parent_are_described(report_data):
    cell = "Li30Si8, space group 14, 0.73 of the expected volume"
    chain = (ProvenanceStep("r0002-a", "Li15Si4", 2, "random_search", {}, None, cell),)
    text = render(dataclasses.replace(report_data, stable=(dataclasses.replace(report_data.stable[0], chain=chain),)))
    provenance = section(text, "provenance", "timings")
    assert f"random_search: {cell}" in provenance
    assert "1 (100 %)" in provenance
