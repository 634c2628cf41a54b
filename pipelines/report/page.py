"""`write_report`: `ReportData` -> one HTML file that opens without a network. Called by the driver and `gnome report`.

The page's frame, style and script are page.html, page.css and page.js beside this module, its sections in `sections/`.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from gnome_core.files import write_file
from pipelines.report.data import ReportData
from pipelines.report.sections import accuracy, analyses, discoveries, rounds, run
from pipelines.report.sections.elements import Page, script_json
from pipelines.store.store import Store

REPORT = "report.html"

# Key, title and body, in the page's order. One that is empty has nothing to say of this store and is left out.
SECTIONS: tuple[tuple[str, str, Callable[[Page], str]], ...] = (
    ("credibility", "Credibility", analyses.credibility),
    ("summary", "Summary", rounds.summary),
    ("funnel", "Funnel", rounds.funnel),
    ("candidates", "Candidates", rounds.candidates),
    ("random-search", "Random search", rounds.random_search),
    ("hit-rate", "Hit rate", accuracy.hit_rate),
    ("accuracy", "Predicted and evaluated", accuracy.accuracy),
    ("calibration", "Uncertainty", accuracy.calibration),
    ("hulls", "Hulls", discoveries.hulls),
    ("crystals", "Stable new crystals", discoveries.crystals),
    ("analyses", "Analyses", analyses.analyses),
    ("provenance", "Provenance", discoveries.provenance),
    ("timings", "Timings", run.timings),
    ("config", "Configuration", run.config),
)
# Nothing but what the file itself holds; plotly.js draws its icons and downloads as data and blob addresses.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


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


def render(data: ReportData) -> str:
    """The whole document."""
    page = Page.of(data)
    sections = [(key, title, body) for key, title, write in SECTIONS if (body := write(page))]
    here = files("pipelines.report")
    frame, style, script = (here.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css", "page.js"))
    n = len([r for r in data.rounds if r > 0])
    rounds_done = f"{n} {'round' if n == 1 else 'rounds'}"
    return Template(frame).substitute(
        policy=CONTENT_POLICY,
        title=escape(data.title),
        lead=f"{rounds_done}; all energies on the scale <code>{escape(data.scale)}</code>",
        navigation=" ".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections),
        sections="\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>\n{body}\n</section>'
            for key, title, body in sections
        ),
        footer="One file, no network. Crystals on the hull lie at most 0.05 meV/atom above it.",
        figures=script_json(page.figures),
        views=script_json(page.views),
        style=style,
        plotly=get_plotlyjs(),
        script=script,
    )
