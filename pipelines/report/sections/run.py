"""How the rounds were run: time, settings, versions."""

from __future__ import annotations

import json
from typing import Any

from pipelines.report import plots
from pipelines.report.labels import NOTHING, count, duration, number
from pipelines.report.sections.elements import Page, Table


def timings(page: Page) -> dict[str, Any]:
    """Wall time of each stage."""
    header = ("Round", "Stage", "Wall time", "Rows in", "Rows per second", "Bytes written", "Evaluations")
    rows = [
        [
            str(s.round),
            s.stage,
            duration(s.seconds),
            count(s.n_in),
            number(s.n_in / s.seconds, 1) if s.seconds > 0 else NOTHING,
            count(s.bytes),
            count(s.evaluations) if s.evaluations else NOTHING,
        ]
        for s in page.data.stages
    ]
    return {
        "figure": page.figure("timings", plots.timings(page.data), "Wall time of each stage, stacked by round"),
        "table": Table("Wall time of the committed attempts", header, rows, numeric={2, 3, 4, 5, 6}),
    }


def config(page: Page) -> dict[str, Any]:
    """The newest round's settings, first those that are not the defaults, and the versions of what ran."""
    changed = [[name, json.dumps(value, ensure_ascii=False)] for name, value in page.data.changed.items()]
    return {
        "changed": Table("Settings that differ from the defaults", ("Setting", "Value"), changed, wide={1}),
        "text": json.dumps(dict(page.data.config), indent=2, ensure_ascii=False, default=str),
        "versions": Table("Versions", ("Package", "Version"), [list(pair) for pair in page.data.versions.items()]),
    }
