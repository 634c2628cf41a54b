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
        "costs": _costs(page),
    }


def _costs(page: Page) -> Table:
    """What each stage cost over all rounds, and what it comes to for a crystal evaluated and for one found."""
    seconds: dict[str, float] = {}
    for stage in page.data.stages:
        if stage.round:
            seconds[stage.stage] = seconds.get(stage.stage, 0.0) + stage.seconds
    total, evaluated, found = sum(seconds.values()), len(page.data.jobs), len(page.stable)

    def row(name: str, spent: float) -> list[str]:
        each = [f"{number(spent / n, 2)} s" if n else NOTHING for n in (evaluated, found)]
        return [name, duration(spent), f"{number(100 * spent / total, 1)} %" if total else NOTHING, *each]

    header = ("Stage", "Wall time", "Share", "A crystal evaluated", "A new crystal on the hull")
    rows = [row(name, spent) for name, spent in sorted(seconds.items(), key=lambda item: -item[1])]
    return Table("What the rounds cost, by stage", header, [*rows, row("all", total)], numeric={1, 2, 3, 4})


def config(page: Page) -> dict[str, Any]:
    """The newest round's settings, first those that are not the defaults, and the versions of what ran."""
    changed = [[name, json.dumps(value, ensure_ascii=False)] for name, value in page.data.changed.items()]
    return {
        "changed": Table("Settings that differ from the defaults", ("Setting", "Value"), changed, wide={1}),
        "text": json.dumps(dict(page.data.config), indent=2, ensure_ascii=False, default=str),
        "versions": Table("Versions", ("Package", "Version"), [list(pair) for pair in page.data.versions.items()]),
    }
