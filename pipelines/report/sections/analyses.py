"""What `gnome analyse` says of the store."""

from __future__ import annotations

from typing import Any

from pipelines.reading.analyses import StoredAnalysis
from pipelines.report.analysis_plots import figures
from pipelines.report.quantities import shown, title
from pipelines.report.sections.elements import Page, arrow_table


def analyses(page: Page) -> dict[str, Any] | None:
    """What is damaged, then one article each; None where none was kept."""
    if not page.data.analyses and not page.data.left_out:
        return None
    newest = max((s.round for s in page.data.stages if s.stage == "hull"), default=0)
    articles = [_article(page, stored, stale=stored.round < newest) for stored in page.data.analyses]
    return {"left_out": page.data.left_out, "articles": articles}


def _article(page: Page, stored: StoredAnalysis, stale: bool) -> dict[str, Any]:
    analysis = stored.analysis
    return {
        "analysis": analysis,
        "round": stored.round,
        "stale": stale,
        "cards": [(title(label), shown(label, value)) for label, value in analysis.summary.items()],
        "figures": [
            page.figure(f"analysis-{analysis.name}-{i}", figure, caption)
            for i, (caption, figure) in enumerate(figures(analysis))
        ],
        "tables": [arrow_table(f"{analysis.title}: {name}", table) for name, table in analysis.tables.items()],
    }
