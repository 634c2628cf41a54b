"""The report in headless Chromium: what a reader sees, chooses, turns, saves and prints, without a network."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageStat

from gnome_core.crystals.cif import parse_cif
from pipelines.reading.analyses import StoredAnalysis
from pipelines.reading.discoveries import ProvenanceStep
from pipelines.report.data import ReportData
from pipelines.report.page import write_report
from tests.pipelines.report.analyses import every_analysis
from tests.pipelines.report.chromium import CHROMIUM, Chromium

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package `chromium`")

# Names of labels in plots and scenes that lie on each other, of all hulls.
COLLISIONS = """
(() => {
  const found = [];
  for (const hull of document.querySelectorAll(".hull")) {
    const texts = [...hull.querySelectorAll(hull.dataset.scene ? "text" : ".textpoint text, .annotation-text")];
    const boxes = texts.filter((text) => text.style.display !== "none")
      .map((text) => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const tall = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 1 && tall > 1) found.push([hull.dataset.figure ?? hull.dataset.scene, a, b]);
    }));
  }
  return found;
})()
"""
# Keep what is saved instead of saving it.
CATCH = """
window.saved = [];
URL.createObjectURL = (blob) => (window.saved.push(blob), "#");
HTMLAnchorElement.prototype.click = function () { window.savedName = this.download; };
"""
LAST_SAVED = """
window.saved.at(-1).arrayBuffer().then(
  (buffer) => btoa(Array.from(new Uint8Array(buffer), (b) => String.fromCharCode(b)).join("")))
"""
SHOWN = "[...document.querySelectorAll('#crystals-table tbody tr')].filter((row) => !row.hidden).map((row) => row.id)"

ELEMENT = "Rb"  # that some of the campaign's discoveries hold


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def data(report_data) -> ReportData:
    analyses = {analysis.name: StoredAnalysis(analysis, 2) for analysis in every_analysis(report_data.jobs)}
    return dataclasses.replace(report_data, credibility=analyses.pop("credibility"), analyses=tuple(analyses.values()))


@pytest.fixture(scope="module")
def file(data, tmp_path_factory) -> Path:
    return write_report(data, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def page(browser, file) -> Iterator[Chromium]:
    """The report, opened anew; whatever a test does, nothing may be logged or asked for."""
    browser.size(1300)
    browser.open(file.as_uri())
    yield browser
    assert browser.faults() == []
    assert browser.requests() == [file.as_uri()]


def click(page: Chromium, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def values(data: ReportData, ids: list[str]) -> list:
    by_id = {f"crystal-{one.id}": one for one in data.stable}
    return [by_id[id_] for id_ in ids]


def draw_all(page: Chromium) -> None:
    """Every figure, as if one had scrolled through the page."""
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.until("[...document.querySelectorAll('[data-figure]')].every((plot) => plot.dataset.ready)")


def test_every_figure_is_drawn_and_no_label_lies_on_another(page):
    draw_all(page)
    places = page.run("document.querySelectorAll('[data-figure], [data-scene]').length")
    assert places > 12
    assert page.run("document.querySelectorAll('[data-figure] .main-svg, [data-scene] > svg').length") >= places
    assert page.run("document.querySelectorAll('.hull .textpoint text').length") > 5
    assert page.run(COLLISIONS) == []


def test_figures_are_drawn_when_they_come_near(page):
    assert page.until("document.querySelector('[data-figure=credibility-0]').dataset.ready")
    assert page.run("document.querySelector('[data-figure=timings]').childElementCount") == 0
    page.run("document.getElementById('timings').scrollIntoView()")
    assert page.until("document.querySelector('[data-figure=timings]').dataset.ready")


def test_the_table_sorts_by_a_column_both_ways(page, data):
    click(page, "[data-key=e_form_per_atom]")
    energies = [one.e_form for one in values(data, page.run(SHOWN))]
    assert energies == sorted(energies)
    head = "document.querySelector('[data-key=e_form_per_atom]').closest('th').ariaSort"
    assert page.run(head) == "ascending"
    click(page, "[data-key=e_form_per_atom]")
    assert [one.e_form for one in values(data, page.run(SHOWN))] == energies[::-1]
    assert page.run(head) == "descending"
    click(page, "[data-key=formula]")
    assert page.run(head) == "none"
    formulas = [one.formula for one in values(data, page.run(SHOWN))]
    assert formulas[0].startswith("Ba")


def test_the_table_is_searched_filtered_and_cleared(page, data):
    everything = page.run(SHOWN)
    assert len(everything) == len(data.stable)
    wanted = data.stable[2]
    search = "document.getElementById('search')"
    page.run(f"{search}.value = {wanted.chemsys!r}; {search}.dispatchEvent(new Event('input'))")
    assert {one.chemsys for one in values(data, page.run(SHOWN))} == {wanted.chemsys}
    page.run(f"{search}.value = {wanted.id[:9]!r}; {search}.dispatchEvent(new Event('input'))")
    found = [one for one in data.stable if wanted.id in {step.id for step in one.chain[:2]}]  # itself, and as a parent
    assert {one.id for one in values(data, page.run(SHOWN))} == {one.id for one in found}
    assert page.run("document.getElementById('shown').textContent") == f"{len(found)} of {len(everything)} crystals"
    click(page, "#choose [type=reset]")
    page.until(f"{SHOWN}.length === {len(everything)}")

    square = f"[data-element={ELEMENT}]"
    click(page, square)
    held = page.run(SHOWN)
    assert 1 < len(held) < len(everything)
    assert all(ELEMENT in one.chemsys.split("-") for one in values(data, held))
    assert page.run(f"document.querySelector('{square}').ariaPressed") == "true"
    click(page, square)
    assert sorted(page.run(SHOWN) + held) == sorted(everything)
    assert page.run("document.getElementById('elements-chosen').textContent") == f": no {ELEMENT}"
    click(page, square)
    assert page.run(SHOWN) == everything
    assert page.run("document.querySelector('[data-element=Fr]').disabled")


def test_the_table_is_filtered_by_verdict(page, data):
    crystals = data.credibility.analysis.tables["crystals"].to_pylist()
    choose = "document.getElementById('verdict')"
    page.run(f"{choose}.value = 'credible'; {choose}.dispatchEvent(new Event('change'))")
    credible = {f"crystal-{row['id']}" for row in crystals if row["credible"]}
    assert set(page.run(SHOWN)) == credible & {f"crystal-{one.id}" for one in data.stable}


def test_columns_are_chosen(page):
    cell = "getComputedStyle(document.querySelector('#crystals-table td.n:nth-child(15)')).display"
    assert page.run(cell) == "none"
    click(page, "[data-column='14']")
    assert page.run(cell) == "table-cell"


def test_what_is_shown_is_saved_as_csv_cif_and_poscar(page, data):
    page.run(CATCH)
    click(page, f"[data-element={ELEMENT}]")
    shown = values(data, page.run(SHOWN))
    assert 1 < len(shown) < len(data.stable)
    click(page, "[data-files=csv]")
    assert page.run("window.savedName") == "crystals.csv"
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(page.run(LAST_SAVED)).decode())))
    assert [row["id"] for row in rows] == [one.id for one in shown]
    energies = [float(row["e_form_per_atom (eV/atom)"]) for row in rows]
    assert energies == pytest.approx([one.e_form for one in shown], abs=1e-6)
    assert "round" not in rows[0], "a column that is not shown"

    click(page, "[data-files=cif]")
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(page.run(LAST_SAVED)))) as bundle:
        assert bundle.testzip() is None
        assert len(bundle.namelist()) == len(shown)
        read = [parse_cif(bundle.read(name).decode()) for name in bundle.namelist()]
    for crystal, one in zip(read, shown, strict=True):
        assert sorted(crystal.numbers) == sorted(one.crystal.numbers)
        assert crystal.volume == pytest.approx(one.crystal.volume, rel=1e-6)
    click(page, "[data-one=poscar]")
    from pymatgen.io.vasp.inputs import Poscar

    poscar = Poscar.from_str(base64.b64decode(page.run(LAST_SAVED)).decode())
    assert page.run("document.querySelector('[aria-selected=true]').dataset.row") == "0"
    first = min(data.stable, key=lambda one: (one.e_above_hull, one.id))
    assert poscar.structure.volume == pytest.approx(first.crystal.volume, rel=1e-6)
    click(page, "#view-controls [data-save=svg]")
    assert page.run(LAST_SAVED.replace("btoa", "")).startswith("<svg")


def test_a_crystal_is_opened_by_click_by_keyboard_and_by_address(browser, file, data):
    browser.size(1300)
    browser.open(f"{file.as_uri()}#crystal-{data.stable[3].id}")
    chosen = "document.querySelector('#crystals-table [aria-selected=true]').id"
    assert browser.run(chosen) == f"crystal-{data.stable[3].id}"
    button = f"document.querySelector('#crystal-{data.stable[1].id} button')"
    browser.run(f"{button}.focus()")
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, **enter)
    assert browser.run(chosen) == f"crystal-{data.stable[1].id}"
    said = browser.run("document.getElementById('facts').textContent")
    assert data.stable[1].id in said
    assert browser.run("document.getElementById('viewer').ariaLabel").startswith(data.stable[1].formula)
    assert browser.faults() == []


def drawn(page: Chromium, crystal: str, **options) -> dict:
    """What scene.js is given of a crystal of these sites, with bonds and polyhedra counted."""
    chosen = {"conventional": True, "supercell": 1, "polyhedra": True, "labels": False} | options
    words = ", ".join(f"{k}: {str(v).lower()}" for k, v in chosen.items())
    return page.run(f"crystalScene({crystal}, ELEMENTS, {{{words}}})")


@pytest.fixture(scope="module")
def drawing(browser, tmp_path_factory) -> Chromium:
    """A bare page with the drawing's functions."""
    from pipelines.report.periodic_table import appearance
    from pipelines.report.sections.elements import script_json
    from pipelines.report.templates import asset

    elements = script_json(appearance(["Cs", "Cl", "Na", "S", "O", "He", "Mg"]))
    scripts = "\n".join(asset(name) for name in ("scene.js", "crystal.js"))
    path = tmp_path_factory.mktemp("drawing") / "drawing.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><script>const ELEMENTS = {elements};\n{scripts}</script>")
    browser.open(path.as_uri())
    return browser


CUBE = "[[4.12, 0, 0], [0, 4.12, 0], [0, 0, 4.12]]"


def test_a_crystal_shows_how_it_was_relaxed(page, data):
    words = []
    for one in data.stable[:4]:
        page.run(f"document.querySelector('#crystal-{one.id} button').click()")
        words.append(page.run("document.querySelector('#facts').textContent"))
        steps = len(data.relaxations[one.job].energies)
        drawn = page.run("document.querySelector('#facts .path polyline')?.points.numberOfItems ?? 0")
        assert drawn == (steps if steps > 1 else 0)
    assert "5 evaluations: 200 meV/atom lower than as proposed, volume +5.3 %" in words[0]
    assert "1 evaluation: 0 meV/atom lower than as proposed, volume +0.0 %" in words[1]
    assert "5 evaluations: 200 meV/atom higher than as proposed" in words[2]
    assert "5 evaluations in relax1:" in words[3]
    page.run(f"document.querySelector('#crystal-{data.stable[-1].id} button').click()")
    assert "Relaxation" not in page.run("document.querySelector('#facts').textContent")


def test_corner_atoms_are_repeated_and_only_unlike_neighbors_are_bonded(drawing):
    cscl = f"{{lattice: {CUBE}, sites: [[0, 0, 0], [0.5, 0.5, 0.5]], symbols: ['Cs', 'Cl'], conventional: null}}"
    scene = drawn(drawing, cscl)
    names = [ball["title"].split()[0] for ball in scene["balls"]]
    # Eight corners, each with its eight neighbours: 27 chlorines.
    assert (names.count("Cs"), names.count("Cl")) == (8, 27)
    bonds = [line for line in scene["lines"] if line["width"] < 0]
    assert len(bonds) == 2 * 64, "eight bonds of each corner, in two halves"
    assert len([line for line in scene["lines"] if line["width"] > 0]) == 12
    lone = (
        "{lattice: [[12, 0, 0], [0, 12, 0], [0, 0, 12]], sites: [[0.5, 0.5, 0.5]], symbols: ['He'], conventional: null}"
    )
    assert not [line for line in drawn(drawing, lone)["lines"] if line["width"] < 0]


def test_an_oxygen_between_a_metal_and_sulfur_keeps_their_bond_away(drawing):
    row = [[0, 0, 0], [2.05 / 20, 0, 0], [2.75 / 20, 1.35 / 20, 0]]  # S is 3.06 Å from Mg; radii allow 3.2
    box = "[[20, 0, 0], [0, 20, 0], [0, 0, 20]]"

    def bonds(sites: list, symbols: list[str]) -> int:
        crystal = f"{{lattice: {box}, sites: {sites}, symbols: {symbols}, conventional: null}}"
        scene = drawn(drawing, crystal, polyhedra=False)
        inside = [b for b in scene["lines"] if b["width"] < 0 and max(map(abs, b["from"] + b["to"])) < 10]
        return len(inside) // 2

    assert bonds(row, ["Mg", "O", "S"]) == 2
    assert bonds([row[0], row[2]], ["Mg", "S"]) == 1, "with nothing between"


def test_rock_salt_has_octahedra_and_its_conventional_and_super_cell(drawing):
    fcc = "[[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]"
    matrix = "[[-1, 1, 1], [1, -1, 1], [1, 1, -1]]"
    nacl = f"{{lattice: {fcc}, sites: [[0, 0, 0], [0.5, 0.5, 0.5]], symbols: ['Na', 'Cl'], conventional: {matrix}}}"
    scene = drawn(drawing, nacl)
    sodium = [ball for ball in scene["balls"] if ball["title"].startswith("Na")]
    assert len(sodium) == 14, "corners and face centres"
    assert len(scene["faces"]) == 14 * 8, "an octahedron each"
    assert all(len(face["points"]) == 3 for face in scene["faces"])
    lengths = [np.linalg.norm(axis["vector"]) for axis in scene["axes"]]
    assert lengths == pytest.approx([5.64] * 3)
    assert len(drawn(drawing, nacl, supercell=2)["balls"]) > 3 * len(scene["balls"])
    assert drawn(drawing, nacl, polyhedra=False)["faces"] == []
    primitive = drawn(drawing, nacl, conventional=False)
    assert len([ball for ball in primitive["balls"] if ball["title"].startswith("Na")]) == 8


def test_a_sulfate_on_a_corner_is_whole(drawing):
    """S at the origin, oxygens around it that lie in the neighbouring cells."""
    d = 1.49 / 3**0.5 / 6
    corners = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    sites = [[0, 0, 0], *([sign * d for sign in corner] for corner in corners)]
    lattice, symbols = "[[6, 0, 0], [0, 6, 0], [0, 0, 6]]", "['S', 'O', 'O', 'O', 'O']"
    sulfate = f"{{lattice: {lattice}, sites: {sites}, symbols: {symbols}, conventional: null}}"
    scene = drawn(drawing, sulfate)
    names = [ball["title"].split()[0] for ball in scene["balls"]]
    assert (names.count("S"), names.count("O")) == (8, 32)
    assert len(scene["faces"]) == 8 * 4, "a tetrahedron each"


def test_the_page_is_legible_in_the_dark_and_on_a_phone(page, tmp_path):
    page.until("document.querySelector('[data-figure=credibility-0]').dataset.ready")
    light = Image.open(page.picture(tmp_path / "light.png")).convert("L")
    page.prefer("dark")
    try:
        dark = Image.open(page.picture(tmp_path / "dark.png")).convert("L")
        text = "document.querySelector('[data-figure=credibility-0] .xtick text').style.fill"
        page.until(f"{text} === 'rgb(230, 233, 237)'")
    finally:
        page.prefer("light")
    assert ImageStat.Stat(light).mean[0] > 200
    assert ImageStat.Stat(dark).mean[0] < 60
    page.size(390)
    page.until("document.documentElement.scrollWidth <= 390")
    assert page.run("document.querySelector('.scroll.wide').clientWidth") < 390
    phone = Image.open(page.picture(tmp_path / "phone.png")).convert("L")
    assert ImageStat.Stat(phone).var[0] > 50


def test_the_print_is_a_few_pages(page):
    pdf = page.pdf()
    (pages,) = re.findall(rb"/Type /Pages\s*/Count (\d+)|/Count (\d+)", pdf)
    assert 1 <= int(pages[0] or pages[1]) <= 4
    drawn = "document.querySelector('[data-figure=hit-rate]').childElementCount"
    assert page.run(drawn) > 0, "before it is printed"


def test_injected_texts_stay_texts(browser, data, tmp_path):
    evil = '</script><img src=x onerror="window.owned = 1">\u202e<script>window.owned = 1</script>'
    link = "javascript:window.owned=1"
    first = data.stable[0]
    chain = (ProvenanceStep(evil, evil, 1, evil, {evil: link}), ProvenanceStep(link, link, 0))
    novelty = type(first.novelty)("known composition", f"{link}, mp")
    worst = dataclasses.replace(first, id=evil, formula=evil, chain=chain, novelty=novelty)
    entries = data.hull_entries
    column = entries.column_names.index("id")
    ids = [evil if id_ == first.id else id_ for id_ in entries["id"].to_pylist()]
    hostile = dataclasses.replace(
        data,
        title=evil,
        stable=(worst, *data.stable[1:]),
        reactions={evil: evil},
        hull_entries=entries.set_column(column, "id", [ids]),
    )
    path = write_report(hostile, tmp_path / "hostile.html")
    browser.open(path.as_uri())
    draw_all(browser)
    click(browser, f"[data-row='{sorted(hostile.stable, key=lambda s: (s.e_above_hull, s.id)).index(worst)}'] button")
    browser.run(CATCH)
    click(browser, "[data-one=cif]")
    saved = base64.b64decode(browser.run(LAST_SAVED)).decode()
    assert saved.isascii()
    parse_cif(saved)
    assert browser.run("window.owned") is None
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("[...document.links].filter((one) => one.protocol === 'javascript:').length") == 0
    assert evil in browser.run("document.getElementById('facts').textContent")
    assert browser.run("document.querySelector('h1 > bdi').textContent") == evil, "whose marks turn no text but its own"
    assert browser.faults() == []


def test_two_thousand_discoveries_open_soon(browser, file, data, tmp_path):
    few = browser.open(file.as_uri())
    many = tuple(
        dataclasses.replace(data.stable[i % len(data.stable)], id=f"r0001-{i:012x}", e_above_hull=-1e-4 * i)
        for i in range(2000)
    )
    path = write_report(dataclasses.replace(data, stable=many, reactions={}), tmp_path / "many.html")
    assert path.stat().st_size < 12e6
    assert browser.open(path.as_uri()) < 10 * max(few, 1.0), "2.5 times, measured"
    assert len(browser.run(SHOWN)) == 2000
    click(browser, "[data-key=formula]")
    assert browser.faults() == []
