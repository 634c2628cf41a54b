"""The new crystals on the hull: their table and each of them, phase diagrams, and how each came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pipelines.reading.discoveries import StableCrystal
from pipelines.report import plots
from pipelines.report.analysis_plots import figures
from pipelines.report.crystal_records import COLUMNS, TITLES, recipe_text, rows
from pipelines.report.hull_plots import hull_diagrams
from pipelines.report.labels import cell, count, formula_html, number
from pipelines.report.periodic_table import squares
from pipelines.report.sections.elements import Figure, Page, Table, short_id
from pipelines.report.summary import headline, origins

MAX_CHAINS = 200
MAX_HULLS = 24
MAX_ROOTS = 100
MAX_QUATERNARY = 12
HULL_KEY = (
    ("◆", plots.NEW, "new, on the hull"),
    ("◇", plots.NEW, "new, above it"),
    ("●", plots.MODEL, "known, on the hull"),
    ("•", plots.KNOWN, "known, above it"),
    ("━", plots.MODEL, "hull"),
    ("┅", plots.KNOWN, "hull of the snapshot (two elements)"),
)


def discoveries(page: Page) -> dict[str, Any]:
    """What the checks leave of them, the table of all, and one of them."""
    found = rows(page.data, page.stable)
    page.crystals.extend(row.record for row in found)
    stored = page.data.credibility
    context: dict[str, Any] = {
        "headline": headline(page.stable),
        "cards": _cards(page),
        "columns": COLUMNS,
        "rows": found,
        "squares": squares(e for s in page.stable for e in s.chemsys.split("-")),
        "checks": [],
        "certificate": None,
    }
    if stored is not None:
        analysis = stored.analysis
        steps = [name.removesuffix("_why") for name in analysis.tables["crystals"].column_names if name[-4:] == "_why"]
        header = ("Check", "Left", "Removed", "Nothing to judge by", "Judged by")
        cells = [[cell(value) for value in row.values()] for row in analysis.tables["waterfall"].to_pylist()]
        context |= {
            "checks": [TITLES.get(key, key) for key in steps],
            "certificate": Table("What the checks leave of the new crystals", header, cells, numeric={1, 2, 3}),
            "figures": [page.figure(f"credibility-{i}", f, c) for i, (c, f) in enumerate(figures(analysis))],
            "notes": analysis.notes,
        }
    return context


def _cards(page: Page) -> list[tuple[str, str, str]]:
    found = headline(page.stable)
    cards = [("on the hull, not in the snapshot", count(found.on_hull), f"{count(found.new)} of unknown composition")]
    if page.data.credibility is not None:
        passed = sum(page.data.credibility.analysis.tables["crystals"]["credible"].to_pylist())
        cards.insert(0, ("pass every check", count(passed), "of what the newest hull holds"))
    if found.confirmed is not None:
        cards.insert(1, ("new, confirmed", count(found.confirmed), f"by {found.judges}"))
    if found.on_mp_hull is not None:
        cards.append(("new, at or below MP's hull", count(found.on_mp_hull), "as the evaluator has them"))
    newest = max((one.round for one in page.stable), default=0)
    if newest:
        last = sum(one.round == newest for one in page.stable)
        cards.append((f"of round {newest}", count(last), "the newest that found any"))
    return cards


def hulls(page: Page) -> dict[str, Any]:
    """Phase diagrams of the systems in which something new is stable."""
    found: dict[str, list[str]] = {}
    for crystal in page.stable:
        found.setdefault(crystal.chemsys, []).append(formula_html(crystal.formula))
    drawn = [c for c in found if c.count("-") in (1, 2)][:MAX_HULLS]
    drawn += [c for c in found if c.count("-") == 3][:MAX_QUATERNARY]
    return {
        "systems": [_hull_figures(page, c, found[c]) for c in sorted(drawn, key=lambda c: c.count("-"))],
        "left_out": [(c, found[c]) for c in found if c not in drawn],
        "key": HULL_KEY,
    }


def _hull_figures(page: Page, chemsys: str, found: Sequence[str]) -> list[Figure]:
    places = []
    for i, (when, figure) in enumerate(hull_diagrams(page.data, chemsys)):
        key = f"hull-{chemsys}-{i}" if when else f"hull-{chemsys}"
        named = Markup(", ").join(found)
        caption = Markup("{}: {}").format(f"{chemsys}, {when}" if when else chemsys, named)
        places.append(page.figure(key, figure, caption, "hull"))
    return places


def provenance(page: Page) -> dict[str, Any]:
    """From each back to its root, and which generators and roots they come from."""
    if not page.stable:
        return {"chains": []}
    found = origins(page.stable)
    share = {name: f"{count(n)} ({number(100 * n / found.n)} %)" for name, n in found.through.items()}
    steps = [[name, count(found.last.get(name, 0)), share[name]] for name in found.through]
    roots = [[formula_html(root.formula), short_id(root.id), count(root.discoveries)] for root in found.roots]
    header = ("Generator", "Made the crystal", "Made it or an ancestor since the root")
    return {
        "generators": Table("Generators behind the new crystals on the hull", header, steps, numeric={1, 2}),
        "roots": Table("Roots", ("Root", "Id", "Discoveries"), roots[:MAX_ROOTS], numeric={2}, tall=True),
        "chains": [(stable.formula, _chain(stable)) for stable in page.stable[:MAX_CHAINS]],
        "more": len(page.stable) > MAX_CHAINS,
    }


def _chain(stable: StableCrystal) -> list[dict[str, str]]:
    return [
        {
            "formula": formula_html(step.formula),
            "id": short_id(step.id),
            "where": "snapshot" if step.round == 0 else f"round {step.round}",
            "recipe": recipe_text(step),
        }
        for step in stable.chain
    ]
