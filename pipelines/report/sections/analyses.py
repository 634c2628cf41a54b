"""What `gnome analyse` says of the store."""

from __future__ import annotations

from html import escape

from pipelines.reading.analyses import StoredAnalysis
from pipelines.report.analysis_plots import figures
from pipelines.report.labels import cell
from pipelines.report.sections.elements import Page, arrow_table, html_table


def credibility(page: Page) -> str:
    """The certificate of what was found: counts, picture and the verdicts."""
    if page.data.credibility is None:
        return ""
    analysis = page.data.credibility.analysis
    header = ("Check", "Left", "Removed", "Nothing to judge by", "Judged by")
    rows = [[cell(value) for value in row.values()] for row in analysis.tables["waterfall"].to_pylist()]
    return (
        f'<article id="analysis-{analysis.name}">'
        + html_table("What the checks leave of the new crystals", header, rows, numeric={1, 2, 3})
        + "".join(
            page.figure(f"credibility-{i}", figure, escape(caption))
            for i, (caption, figure) in enumerate(figures(analysis))
        )
        + arrow_table("Each crystal's verdicts", analysis.tables["crystals"])
        + f'<p class="note">{" ".join(escape(note) for note in analysis.notes)}</p></article>'
    )


def analyses(page: Page) -> str:
    """What is damaged, then one article each; empty where none was kept."""
    newest = max((s.round for s in page.data.stages if s.stage == "hull"), default=0)
    left_out = "".join(f'<p class="note">{escape(what)}</p>' for what in page.data.left_out)
    return left_out + "".join(_analysis(page, stored, stale=stored.round < newest) for stored in page.data.analyses)


def _analysis(page: Page, stored: StoredAnalysis, stale: bool) -> str:
    analysis = stored.analysis
    made = f"Made of the hull of round {stored.round}"
    made += "; newer rounds are not in it. " if stale else ". "
    cards = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{cell(value)}</dd></div>" for label, value in analysis.summary.items()
    )
    drawn = "".join(
        page.figure(f"analysis-{analysis.name}-{i}", figure, escape(caption))
        for i, (caption, figure) in enumerate(figures(analysis))
    )
    tables = "".join(
        arrow_table(f"{escape(analysis.title)}: {escape(name)}", table) for name, table in analysis.tables.items()
    )
    return (
        f'<article id="analysis-{analysis.name}"><h3>{escape(analysis.title)}</h3>'
        f'<p class="note">{made}{" ".join(escape(note) for note in analysis.notes)}</p>'
        f'<dl class="cards small">{cards}</dl><div class="pair">{drawn}</div>{tables}</article>'
    )
