"""Several stores on one page."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from pipelines.errors import UserError
from pipelines.report.compare import named_apart, render_comparison, write_comparison
from pipelines.report.data import ReportData
from pipelines.report.summary import headline, summarize
from tests.pipelines.report.chromium import CHROMIUM, Chromium


@pytest.fixture(scope="module")
def stores(report_data) -> list[ReportData]:
    """The campaign, and one that ended after its first round with a setting changed."""
    jobs = report_data.jobs.filter(report_data.jobs["round"].to_numpy() == 1)
    short = dataclasses.replace(
        report_data,
        title="short <b>",
        jobs=jobs,
        stages=tuple(stage for stage in report_data.stages if stage.round < 2),
        stable=tuple(one for one in report_data.stable if one.round == 1),
        changed={"seed": 7, "selection.budget": 50},
    )
    return [dataclasses.replace(report_data, changed={"seed": 7}), short]


def rows(text: str, caption: str) -> list[list[str]]:
    table = text[text.index(f"<caption>{caption}") :]
    table = table[: table.index("</table>")]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[2:]]
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in cells]


def test_the_numbers_are_those_of_the_stores_reports(stores):
    text = render_comparison(stores)
    table = rows(text, "What each store came to")
    assert [row[0] for row in table] == ["Halides and perovskites &lt;demo&gt;", "short &lt;b&gt;"]
    for row, data in zip(table, stores, strict=True):
        rounds = summarize(data.jobs)
        assert row[2] == str(len(rounds))
        assert row[4].endswith(f"{sum(r.model.hits for r in rounds)} of {sum(r.model.n for r in rounds)}")
        assert row[6] == f"{1000 * rounds[-1].mae:.0f}"
        assert int(row[7]) == headline(data.stable).on_hull
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', text)[1])
    found = {trace["name"]: trace for trace in figures["found"]["data"]}
    assert found["short &lt;b&gt;"]["x"] == [0, len(stores[1].jobs)]
    assert found["short &lt;b&gt;"]["y"][-1] == summarize(stores[1].jobs)[0].model.hits
    assert "different scales" not in text
    apart = [stores[0], dataclasses.replace(stores[1], scale="other")]
    assert "different scales (chgnet-0.3.0, other)" in render_comparison(apart)


def test_compositions_of_several_stores_come_first_and_settings_that_are_the_same_are_left_out(stores):
    text = render_comparison(stores)
    both = {one.formula for one in stores[0].stable} & {one.formula for one in stores[1].stable}
    every = {one.formula for one in stores[0].stable} | {one.formula for one in stores[1].stable}
    caption = f"{len(every)} compositions on the newest hulls, {len(both)} of them in several stores"
    found = rows(text, caption)
    assert {row[0] for row in found[: len(both)]} == both
    assert all("–" in row[1:] for row in found[len(both) :])
    assert rows(text, "Settings in which they differ") == [["selection.budget", "default", "50"]]


def test_stores_of_one_name_are_told_apart(stores):
    same = [dataclasses.replace(one, title="s") for one in stores]
    assert [one.title for one in named_apart(same, ["a/s", "b/s"])] == ["a/s", "b/s"]
    assert named_apart(stores, ["a", "b"]) == stores
    with pytest.raises(UserError, match="a/s is given twice"):
        named_apart(same, ["a/s", "a/s"])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package `chromium`")
def test_a_comparison_is_drawn_without_faults_or_requests(stores, tmp_path):
    path = write_comparison(stores, tmp_path / "compare.html")
    browser = Chromium(tmp_path / "profile")
    try:
        browser.size(1300)
        browser.open(path.as_uri())
        browser.until("[...document.querySelectorAll('[data-figure]')].every((plot) => plot.dataset.ready)")
        legend = "[...document.querySelectorAll('[data-figure=found] .legendtext')].map((text) => text.textContent)"
        assert browser.run(legend) == [one.title for one in stores]
        assert browser.run("document.querySelectorAll('b').length") == 0, "a name is text"
        assert browser.faults() == []
        assert browser.requests() == [path.as_uri()]
        browser.size(390)
        browser.until("document.documentElement.scrollWidth <= 390")
    finally:
        browser.close()
