"""How the rounds were run: time, settings, versions."""

from __future__ import annotations

import json
from html import escape

from pipelines.report import plots
from pipelines.report.labels import NOTHING, count, duration, number
from pipelines.report.sections.elements import Page, html_table


def timings(page: Page) -> str:
    """Wall time of each stage."""
    header = ("Round", "Stage", "Wall time", "Rows in", "Rows per second", "Bytes written", "Evaluations")
    rows = [
        [
            str(s.round),
            escape(s.stage),
            duration(s.seconds),
            count(s.n_in),
            number(s.n_in / s.seconds, 1) if s.seconds > 0 else NOTHING,
            count(s.bytes),
            count(s.evaluations) if s.evaluations else NOTHING,
        ]
        for s in page.data.stages
    ]
    return page.figure("timings", plots.timings(page.data), "Wall time of each stage, stacked by round") + (
        "<details><summary>Table</summary>"
        + html_table("Wall time of the committed attempts", header, rows, numeric={2, 3, 4, 5, 6})
        + "</details>"
    )


def config(page: Page) -> str:
    """The newest round's settings and the versions of what ran."""
    text = json.dumps(dict(page.data.config), indent=2, ensure_ascii=False, default=str)
    rows = [[escape(name), escape(version)] for name, version in page.data.versions.items()]
    return (
        f"<details><summary>Round configuration</summary><pre><code>{escape(text)}</code></pre></details>"
        "<details><summary>Versions</summary>" + html_table("Versions", ("Package", "Version"), rows) + "</details>"
    )
