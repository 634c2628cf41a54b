"""The rounds: their figures of merit, rows through their stages, candidates, random search."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pipelines.report import plots
from pipelines.report.data import StageCounts
from pipelines.report.labels import NOTHING, count, duration, formula_html, milli, number
from pipelines.report.sections.elements import Page, Table, gain_text, part_text, percent, share_text
from pipelines.report.summary import RoundSummary, gain, headline, hits_together, search_hits

MAX_UNPACKED = 50
MAX_SEARCHED = 500


def campaign(page: Page) -> str:
    """The campaign in a sentence."""
    n = sum(round_ > 0 for round_ in page.data.rounds)
    generators = sorted({g.generator.replace("_", " ") for g in page.data.generated})
    by = f" of {' and '.join(generators)}" if generators else ""
    within = page.data.config.get("generation", {}).get("elements") or page.data.config.get("snapshot_elements")
    among = f" among {len(within)} elements ({', '.join(within)})" if within else ""
    generated = sum(s.n_out for s in page.data.stages if s.stage == "generate")
    return (
        f"{n} {'round' if n == 1 else 'rounds'}{by}{among}: {count(generated)} candidates generated, "
        f"{count(len(page.data.jobs))} chosen and evaluated, {count(len(page.stable))} new crystals on the hull."
    )


def summary(page: Page) -> dict[str, Any]:
    """The figures that tell most, as cards."""
    found = headline(page.stable)
    by_round = ", ".join(
        f"{sum(s.round == r for s in page.stable)} in round {r}" for r in sorted({s.round for s in page.stable})
    )
    published = f"{count(found.on_mp_hull)} on or below MP's hull" if found.on_mp_hull is not None else ""
    confirmed = [] if found.confirmed is None else [("new, confirmed", count(found.confirmed), f"by {found.judges}")]
    evaluated = int(sum(page.data.jobs["e_form"].is_valid().to_pylist()))
    generated = sum(s.n_out for s in page.data.stages if s.stage == "generate")
    cards = [
        *confirmed,
        ("new (unknown composition)", count(found.new), published),
        ("on the hull, not in the snapshot", count(found.on_hull), by_round),
        ("candidates generated", count(generated), "in all rounds"),
        ("candidates evaluated", count(evaluated), f"{count(len(page.data.jobs) - evaluated)} failed"),
    ]
    if page.rounds:
        first, last = page.rounds[0], page.rounds[-1]
        cards += [
            (f"hit rate, round {last.round}", percent(last.model), f"random baseline {percent(last.random)}"),
            ("gain over random", gain_text(gain(*hits_together(page.rounds))), "all rounds"),
            (f"MAE, round {last.round}", f"{milli(last.mae)} meV/atom", _change(first, last)),
        ]
    total = sum(s.seconds for s in page.data.stages)
    cards.append(("wall time of the stages", duration(total), f"{len(page.data.stages)} stages"))
    return {"cards": cards}


def funnel(page: Page) -> dict[str, Any]:
    """Rows through every stage, and why some were turned away."""
    header = ("Round", "Stage", "In", "Out", "Rejected", "Dead", "In = out + rejected + dead", "Reasons")
    rows = [
        [
            str(s.round),
            s.stage,
            count(s.n_in),
            count(s.n_out),
            count(s.n_rejected),
            count(s.n_dead),
            "yes" if s.balanced else Markup("<strong>no</strong>"),
            _reasons(s),
        ]
        for s in page.data.stages
    ]
    return {
        "figure": page.figure("funnel", plots.funnel(page.data), "Candidates left after each stage, by round"),
        "table": Table("Rows through each stage", header, rows, numeric={2, 3, 4, 5}, wide={7}),
    }


def candidates(page: Page) -> dict[str, Any]:
    """What each generator made, and how much of it was new and scored."""
    if not page.data.generated:
        return {"table": None}
    header = ("Round", "Generator", "Elements", "Recipes", "New", "Scored", "Charge-balanced")
    rows = [
        [
            str(g.round),
            g.generator,
            str(g.n_elements),
            count(g.recipes),
            count(g.new),
            count(g.kept),
            f"{number(100 * g.balanced / g.kept, 1)} %" if g.kept else NOTHING,
        ]
        for g in page.data.generated
    ]
    kept, balanced = (sum(getattr(g, name) for g in page.data.generated) for name in ("kept", "balanced"))
    share = f" {number(100 * balanced / kept, 1)} % of the scored are." if kept else ""
    unpacked = [formula_html(formula) for _, formula in page.data.unpacked]
    return {
        "share": share,
        "figure": page.figure("generated", plots.generated(page.data), "Recipes of new compositions by generator"),
        "table": Table(
            "Candidates by generator and number of elements", header, rows, numeric={2, 3, 4, 5, 6}, tall=True
        ),
        "compositions": _searched_compositions(page),
        "unpacked": unpacked[:MAX_UNPACKED],
        "more_unpacked": max(len(unpacked) - MAX_UNPACKED, 0),
    }


def _searched_compositions(page: Page) -> Table | None:
    """Shares of the oxidation rule, where random structures were made."""
    if not page.data.compositions:
        return None
    header = ("Round", "Elements", "Compositions", "Pass the oxidation rule")
    rows = [
        [str(c.round), str(c.n_elements), count(c.enumerated), part_text(c.passed, c.enumerated)]
        for c in page.data.compositions
    ]
    return Table("Compositions taken for random structures", header, rows, numeric={1, 2, 3})


def random_search(page: Page) -> dict[str, Any] | None:
    """Compositions that were searched with random structures; None where none were."""
    if not page.data.searches:
        return None
    header = (
        "Round",
        "Compositions",
        "Random structures",
        "Packed",
        "Converged",
        "Compositions that became labels",
        "Hit rate, model",
        "Hit rate, random",
        "Labels then trained on",
    )
    rows = [
        [
            str(s.round),
            count(len(s.compositions)),
            count(sum(c.begun for c in s.compositions)),
            part_text(sum(c.packed for c in s.compositions), sum(c.begun for c in s.compositions)),
            part_text(sum(c.converged for c in s.compositions), sum(c.packed for c in s.compositions)),
            count(sum(c.converged >= s.least_converged for c in s.compositions)),
            share_text(search_hits(s, by_random=False)),
            share_text(search_hits(s, by_random=True)),
            NOTHING if s.labels is None else f"{count(s.labels)}, {count(s.labels_searched or 0)} by search alone",
        ]
        for s in page.data.searches
    ]
    by_composition = [
        [
            formula_html(c.formula),
            str(s.round),
            count(c.packed),
            count(c.converged),
            "yes" if c.converged >= s.least_converged else "no",
            number(c.predicted, 3),
            NOTHING if c.e_form is None else number(c.e_form, 3),
            NOTHING if c.e_above_hull is None else milli(c.e_above_hull, 1),
        ]
        for s in page.data.searches
        for c in s.compositions
    ][:MAX_SEARCHED]
    names = (
        "Composition",
        "Round",
        "Packed",
        "Converged",
        "Label",
        "Predicted (eV/atom)",
        "Lowest (eV/atom)",
        "To the hull before the round (meV/atom)",
    )
    return {
        "least": page.data.searches[-1].least_converged,
        "figure": page.figure(
            "search-volumes",
            plots.search_volumes(page.data),
            "Relaxations that converged, by the volume that the structure began with",
        ),
        "table": Table("Random search, by round", header, rows, numeric={1, 2, 3, 4, 5, 6, 7, 8}),
        "compositions": Table("Searched compositions", names, by_composition, numeric={1, 2, 3, 5, 6, 7}, tall=True),
    }


def _reasons(stage: StageCounts) -> str:
    named = [*sorted(stage.rejected.items()), *((f"dead: {reason}", n) for reason, n in sorted(stage.dead.items()))]
    return ", ".join(f"{reason.replace('_', ' ')} {count(n)}" for reason, n in named if n) or NOTHING


def _change(first: RoundSummary, last: RoundSummary) -> str:
    return "of the ensemble's median" if first is last else f"round {first.round}: {milli(first.mae)} meV/atom"
