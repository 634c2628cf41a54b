"""The written page: its structure, its escaping, its numbers, and that it asks for nothing outside itself."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest

from gnome_core.crystals.crystal import Crystal
from pipelines.reading.discoveries import ProvenanceStep
from pipelines.report.crystal_records import mp_address, novelty_text, shape_of
from pipelines.report.data import ReportData, StageCounts
from pipelines.report.page import render, write_report
from pipelines.report.summary import search_hits

VOID = {"wbr", "meta", "br", "img", "input", "link", "hr"}


class Document(HTMLParser):
    """Collects every element and checks that tags nest; script text is kept apart."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.data, self.text = [], [], {}, ""
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
            key = self.all("script")[-1].get("id")
            self.data |= {key: json.loads(data)} if key else {}
        else:
            self.text += data

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
    titles = ["summary", "hit-rate", "accuracy", "calibration", "funnel", "candidates", "random-search"]
    assert ids == ["discoveries", "hulls", *titles, "provenance", "timings", "config"]
    assert [a["href"] for a in document.all("a") if a["href"].startswith("#")] == [f"#{i}" for i in ids]


def test_the_head_names_the_store_its_hull_and_the_campaign(report_data):
    made = "The hull of round 2, made on 29 November 2026, 05:36 UTC"
    page = Document(render(dataclasses.replace(report_data, made=made)))
    assert page.text.count(report_data.title) == 2, "title and heading"
    assert "2 rounds of random search and saps and substitution: 99,182 candidates generated, 200 chosen" in page.text
    assert f"{made}. All energies on the scale" in page.text


def test_loads_nothing_from_outside(document):
    assert not [attrs for _, attrs in document.elements if "src" in attrs]
    assert not document.all("link")
    links = {attrs["href"] for attrs in document.all("a") if not attrs["href"].startswith("#")}
    assert links
    assert all(link.startswith("https://next-gen.materialsproject.org/materials") for link in links), "to be clicked"
    policy = next(a["content"] for a in document.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "connect-src" not in policy


def test_plotly_is_inlined_once(text):
    assert len(re.findall(r"plotly\.js \(basic - minified\) v\d", text)) == 1


def test_every_figure_is_valid_named_and_described(document):
    figures = document.data["figures"]
    places = [attrs for attrs in document.all("div") if "data-figure" in attrs]
    assert {place["data-figure"] for place in places} == set(figures)
    scenes = {attrs["data-scene"] for attrs in document.all("div") if "data-scene" in attrs}
    assert scenes == set(document.data["scenes"])
    assert {"funnel", "generated", "hit-rate", "parity", "coverage", "spread", "members", "timings"} <= set(figures)
    assert {"search-volumes", "curves"} <= set(figures)
    (bars,) = figures["search-volumes"]["data"]
    assert bars["y"] == [30.0, pytest.approx(100 * 9 / 14)]
    assert all(place["role"] == "img" and place["aria-label"] for place in places)
    for figure in figures.values():
        go.Figure(figure)


def test_every_crystal_row_has_its_record(document, report_data):
    records = document.data["crystals"]
    rows = [attrs for attrs in document.all("tr") if "data-row" in attrs]
    assert [row["id"] for row in rows] == [f"crystal-{record['values']['id']}" for record in records]
    assert len(rows) == len(report_data.stable)
    by_id = {one.id: one for one in report_data.stable}
    for record in records:
        one = by_id[record["values"]["id"]]
        assert len(record["symbols"]) == len(record["sites"]) == record["values"]["n_sites"] == one.crystal.n_sites
        assert record["elements"] == one.chemsys.split("-")
        assert record["values"]["e_form_per_atom"] == pytest.approx(one.e_form, abs=1e-6)
        assert set(record["elements"]) <= set(document.data["elements"])
        conventional = np.array(record["conventional"]) @ np.array(record["lattice"])
        assert np.linalg.det(conventional) >= one.crystal.volume * 0.999
        assert len(record["steps"]) == len(one.chain)


def test_rock_salt_has_the_conventional_cell_that_everybody_draws():
    fcc = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]) * 5.64
    shape = shape_of(Crystal(fcc, [[0, 0, 0], [0.5] * 3], [11, 17]))
    assert shape.group == ("Fm-3m", 225, "cF8")
    assert shape.type == "AB, cF8, 225, b a"
    cell = np.array(shape.conventional) @ fcc
    np.testing.assert_allclose(cell @ cell.T, 5.64**2 * np.eye(3), atol=1e-9)


def test_known_compositions_and_parents_lead_to_the_materials_project(report_data):
    assert mp_address("mp-1265", "MgO") == "https://next-gen.materialsproject.org/materials/mp-1265"
    assert mp_address("mp", "MgO") == "https://next-gen.materialsproject.org/materials?formula=MgO"
    assert mp_address("mp", "a&b=/") == "https://next-gen.materialsproject.org/materials?formula=a%26b%3D%2F"
    assert mp_address("oqmd", "MgO") is None
    assert mp_address("mp-1/../x", "MgO") is None
    known = next(one for one in report_data.stable if one.novelty.source == "mp, oqmd")
    assert f"?formula={known.formula}" in novelty_text(known)


def test_crystals_say_who_knows_their_composition_and_how_they_stand_on_the_published_hull(text, report_data):
    rows = section(text, "crystals-table", "hulls")
    known = [crystal for crystal in report_data.stable if crystal.novelty.level != "new"]
    assert rows.count("known composition <small>") == len(known) > 0
    assert rows.count(" ± 59") == len(report_data.stable)
    assert f"{len(report_data.stable) - len(known)} new (unknown composition), " in text
    none = {"e_above_mp_hull": None, "e_above_mp_hull_uncertainty": None}
    apart = tuple(dataclasses.replace(crystal, **none) for crystal in report_data.stable)
    assert "± 59" not in section(render(dataclasses.replace(report_data, stable=apart)), "crystals-table", "hulls")


def test_crystals_tell_their_chance_and_who_confirms_them(report_data):
    first, second, *others = sorted(report_data.stable, key=lambda one: (one.e_above_hull, one.id))
    asked = (
        dataclasses.replace(first, p_stable=0.62, confirmed=True, confirmed_by="nequix-oam-1"),
        dataclasses.replace(second, p_stable=None, confirmed=None, confirmed_by="vasp"),
        *others,
    )
    page = Document(render(dataclasses.replace(report_data, stable=asked)))
    told = [(one["values"]["p_stable"], one["values"]["confirmed"]) for one in page.data["crystals"]]
    assert told[:2] == [(0.62, "yes, nequix-oam-1"), (None, "no answer, vasp")]
    assert {confirmed for _, confirmed in told[2:]} == {None}
    assert "The winner's curse (meV/atom)" in page.text


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
    candidates = section(text, "candidates", "random-search")
    assert "30,000" in candidates
    assert "80.0 %" in candidates  # 800 of the 1,000 scored binaries by substitution
    assert "21.5 % of the scored are" in candidates
    assert "3,550 (98.6 %)" in candidates
    assert "could be packed of CsLi<sub>7</sub>." in candidates


def test_what_was_not_generated_is_not_shown(report_data):
    empty = render(dataclasses.replace(report_data, generated=(), compositions=(), unpacked=()))
    assert "Nothing has been generated yet" in section(empty, "candidates", "random-search")
    plain = render(dataclasses.replace(report_data, compositions=(), unpacked=()))
    assert "oxidation rule" not in section(plain, "candidates", "random-search")


def test_cells_without_a_parent_are_described(report_data):
    cell = "Li30Si8, space group 14, 0.73 of the expected volume"
    chain = (ProvenanceStep("r0002-a", "Li15Si4", 2, "random_search", {}, None, cell),)
    text = render(dataclasses.replace(report_data, stable=(dataclasses.replace(report_data.stable[0], chain=chain),)))
    provenance = section(text, "provenance", "timings")
    assert f"random_search: {cell}" in provenance
    assert "1 (100 %)" in provenance
