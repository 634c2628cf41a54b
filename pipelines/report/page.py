"""`write_report`: `ReportData` -> one HTML file that opens without a network. Called by the driver and `gnome report`.

Templates are in `templates/`, styles and scripts in `assets/`, what sections say in `sections/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from gnome_core.files import write_file
from pipelines.report.crystal_records import COLUMNS
from pipelines.report.data import ReportData
from pipelines.report.periodic_table import appearance
from pipelines.report.sections import accuracy, analyses, discoveries, rounds, run
from pipelines.report.sections.elements import Page, script_json
from pipelines.report.templates import asset, render_template
from pipelines.store.store import Store

REPORT = "report.html"

Section = tuple[str, str, Callable[[Page], dict[str, Any] | None]]
# Key (of its template too), title and what fills the template, in the page's order. None: nothing to say of this store.
SECTIONS: tuple[Section, ...] = (
    ("discoveries", "Discoveries", discoveries.discoveries),
    ("hulls", "Hulls", discoveries.hulls),
    ("summary", "Rounds", rounds.summary),
    ("hit-rate", "Hit rate", accuracy.hit_rate),
    ("accuracy", "Predicted and evaluated", accuracy.accuracy),
    ("calibration", "Uncertainty", accuracy.calibration),
    ("funnel", "Funnel", rounds.funnel),
    ("candidates", "Candidates", rounds.candidates),
    ("random-search", "Random search", rounds.random_search),
    ("analyses", "Analyses", analyses.analyses),
    ("provenance", "Provenance", discoveries.provenance),
    ("timings", "Timings", run.timings),
    ("config", "Configuration", run.config),
)
# Nothing but what the file itself holds; figures are saved from data and blob addresses.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'"
)
LIVE_POLICY = CONTENT_POLICY + "; connect-src 'self'"  # a page that is served asks its server what is new
SCRIPTS = ("files.js", "figures.js", "scene.js", "crystal.js", "table.js", "live.js", "page.js")
FOOTER = "One file, no network. Crystals on the hull lie at most 0.05 meV/atom above it."


def write_report(data: ReportData, path: str | Path) -> Path:
    """Write the report to `path` (its folder is made) and return it. The same data gives the same bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, render(data).encode())
    return path


def write_store_report(store: Store, data: ReportData) -> str:
    """Write the report where the store is, in a folder or a bucket, and return its address."""
    store.storage.write(REPORT, render(data).encode())
    return store.storage.address(REPORT) if store.in_bucket else str(Path(store.root, REPORT))


class Live(NamedTuple):
    """Where a page that is served asks how the store stands, and the version of the store that it shows."""

    address: str
    version: str


def render(data: ReportData, live: Live | None = None) -> str:
    """The whole document. live: of a page that is served; a file asks nobody."""
    page = Page.of(data)
    sections = [
        (key, title, render_template(f"sections/{key}.html", **context))
        for key, title, write in SECTIONS
        if (context := write(page)) is not None
    ]
    embedded = {
        "figures": page.figures,
        "scenes": page.scenes,
        "crystals": page.crystals,
        "columns": [{"key": c.key, "unit": c.unit, "numeric": c.numeric, "shown": c.shown} for c in COLUMNS],
        "elements": appearance(symbol for record in page.crystals for symbol in record["elements"]),
    }
    scale = Markup("{}. All energies on the scale <code>{}</code>.").format(data.made, data.scale)
    return render_frame(data.title, [rounds.campaign(page), scale], sections, embedded, live)


def render_frame(
    title: str,
    lead: Sequence[str],
    sections: Sequence[tuple[str, str, Markup]],
    embedded: dict[str, Any],
    live: Live | None = None,
) -> str:
    """A document of these sections (key, title, body), with styles, scripts and the JSON that scripts read."""
    page = render_template(
        "page.html",
        title=title,
        lead=lead,
        sections=sections,
        policy=LIVE_POLICY if live else CONTENT_POLICY,
        live=live,
        footer=FOOTER,
        data=[(key, script_json(value)) for key, value in embedded.items()],
        style=Markup(asset("page.css")),
        plotly=Markup(asset("plotly-basic.min.js")),
        script=Markup('(() => {\n"use strict";\n' + "\n".join(map(asset, SCRIPTS)) + "\n})();"),
    )
    return str(page)  # which is done: nothing more is put into it
