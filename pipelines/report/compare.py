"""Several stores on one page: what each found, how soon, how well its models told, and in what they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import escape

from gnome_core.files import write_file
from pipelines.errors import UserError
from pipelines.report.data import ReportData
from pipelines.report.labels import NOTHING, count, duration, formula_html, milli
from pipelines.report.page import render_frame
from pipelines.report.plots import ROUND_COLORS, interval_bars, new_figure
from pipelines.report.sections.elements import Figure, Table, gain_text, plain_figure, share_text
from pipelines.report.summary import RoundSummary, gain, headline, hits_together, summarize
from pipelines.report.templates import render_template

MAX_FORMULAS = 500


def write_comparison(stores: Sequence[ReportData], path: str | Path) -> Path:
    """Write the page to `path` (its folder is made) and return it. Titles must differ: they name the stores."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, render_comparison(stores).encode())
    return path


def named_apart(stores: Sequence[ReportData], addresses: Sequence[str]) -> list[ReportData]:
    """The stores, by their whole addresses where two have the same name. Raises UserError for one given twice."""
    if twice := [address for address, n in Counter(addresses).items() if n > 1]:
        raise UserError(f"{twice[0]} is given twice; give each store once")
    if len({data.title for data in stores}) == len(stores):
        return list(stores)
    return [replace(data, title=address) for data, address in zip(stores, addresses, strict=True)]


def render_comparison(stores: Sequence[ReportData]) -> str:
    """The whole document."""
    rounds = [summarize(data.jobs) for data in stores]
    figures = {
        key: (caption, draw(stores, rounds))
        for key, caption, draw in (
            ("found", "Crystals at or below the hull before their round, against evaluations", _found),
            ("hit-rate", "Hit rate of the models' choices by round, with 95 % Wilson intervals", _hit_rates),
            ("mae", "Mean absolute error of the ensemble's median by round", _errors),
            ("time", "Wall time of each stage, all rounds together", _times),
        )
    }
    places = [Figure(key, caption) for key, (caption, _) in figures.items()]
    scales = sorted({data.scale for data in stores})
    body = render_template(
        "compare.html",
        table=_table(stores, rounds),
        figures=places,
        scales=scales,
        formulas=_formulas(stores),
        settings=_settings(stores),
    )
    names = ", ".join(data.title for data in stores)
    lead = [f"{len(stores)} stores: {names}.", *(f"{data.title}: {data.made}." for data in stores if data.made)]
    embedded = {"figures": {key: plain_figure(figure) for key, (_, figure) in figures.items()}}
    title = f"{stores[0].title} and {len(stores) - 1} more"
    return render_frame(title, lead, [("comparison", "Comparison", body)], embedded)


def _table(stores: Sequence[ReportData], rounds: Sequence[list[RoundSummary]]) -> Table:
    header = (
        "Store", "Scale", "Rounds", "Evaluated", "Hit rate, model", "Gain over random", "MAE, last round (meV/atom)",
        "New on the hull", "Of unknown composition", "Pass every check", "Wall time",
    )  # fmt: skip
    rows = []
    for data, summaries in zip(stores, rounds, strict=True):
        model, random = hits_together(summaries)
        found = headline(data.stable)
        checks = data.credibility.analysis.tables["crystals"] if data.credibility else None
        rows.append(
            [
                data.title,
                data.scale,
                str(sum(round_ > 0 for round_ in data.rounds)),
                count(len(data.jobs) - data.jobs["e_form"].null_count),
                share_text(model),
                gain_text(gain(model, random)),
                milli(summaries[-1].mae) if summaries else NOTHING,
                count(found.on_hull),
                count(found.new),
                NOTHING if checks is None else count(checks["credible"].to_pylist().count(True)),
                duration(sum(stage.seconds for stage in data.stages)),
            ]
        )
    return Table("What each store came to", header, rows, numeric=range(2, len(header)))


def _formulas(stores: Sequence[ReportData]) -> Table:
    """New compositions on the newest hulls, those of most stores first."""
    depths: dict[str, dict[str, float]] = {}
    for data in stores:
        for one in data.stable:
            by_store = depths.setdefault(one.formula, {})
            by_store[data.title] = min(one.e_above_hull, by_store.get(data.title, one.e_above_hull))
    order = sorted(depths, key=lambda formula: (-len(depths[formula]), min(depths[formula].values()), formula))
    rows = [
        [formula_html(formula)]
        + [milli(depths[formula][data.title], 1) if data.title in depths[formula] else NOTHING for data in stores]
        for formula in order[:MAX_FORMULAS]
    ]
    shared = sum(len(found) > 1 for found in depths.values())
    caption = f"{count(len(depths))} compositions on the newest hulls, {count(shared)} of them in several stores"
    more = f"; the first {MAX_FORMULAS}" if len(order) > MAX_FORMULAS else ""
    titles = [f"{data.title} (meV/atom)" for data in stores]
    return Table(caption + more, ("Composition", *titles), rows, numeric=range(1, len(stores) + 1), tall=True)


def _settings(stores: Sequence[ReportData]) -> Table:
    """Settings in which the stores differ, by their dotted names."""
    names = sorted({name for data in stores for name in data.changed})
    rows = []
    for name in names:
        values = [json.dumps(data.changed[name]) if name in data.changed else "default" for data in stores]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return Table("Settings in which they differ", ("Setting", *(data.title for data in stores)), rows, tall=True)


Draw = Callable[[Sequence[ReportData], Sequence[list[RoundSummary]]], go.Figure]


def _found(stores: Sequence[ReportData], rounds: Sequence[list[RoundSummary]]) -> go.Figure:
    figure = new_figure("evaluations", "crystals at or below the hull")
    for i, (data, summaries) in enumerate(zip(stores, rounds, strict=True)):
        evaluations, hits = [0], [0]
        for one in summaries:
            jobs = data.jobs.filter(data.jobs["round"].to_numpy() == one.round)
            evaluations.append(evaluations[-1] + len(jobs))
            hits.append(hits[-1] + one.model.hits)
        _line(figure, i, data.title, evaluations, hits)
    return figure


def _hit_rates(stores: Sequence[ReportData], rounds: Sequence[list[RoundSummary]]) -> go.Figure:
    figure = new_figure("round", "hit rate (%)")
    for i, (data, summaries) in enumerate(zip(stores, rounds, strict=True)):
        shares = [one.model for one in summaries]
        x, y = [one.round for one in summaries], [100 * share.value for share in shares]
        _line(figure, i, data.title, x, y, error_y=interval_bars(shares, thickness=1.2))
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return figure


def _errors(stores: Sequence[ReportData], rounds: Sequence[list[RoundSummary]]) -> go.Figure:
    figure = new_figure("round", "MAE (meV/atom)")
    for i, (data, summaries) in enumerate(zip(stores, rounds, strict=True)):
        _line(figure, i, data.title, [one.round for one in summaries], [1000 * one.mae for one in summaries])
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return figure


def _times(stores: Sequence[ReportData], rounds: Sequence[list[RoundSummary]]) -> go.Figure:
    figure = new_figure("", "wall time (s)", barmode="group")
    names = list(dict.fromkeys(stage.stage for data in stores for stage in data.stages))
    for i, data in enumerate(stores):
        seconds = [sum(stage.seconds for stage in data.stages if stage.stage == name) for name in names]
        figure.add_bar(x=names, y=seconds, name=str(escape(data.title)), marker_color=_color(i))
    return figure


def _line(figure: go.Figure, i: int, name: str, x: list, y: list, **style: Any) -> None:
    line = {"color": _color(i), "dash": ("solid", "dash", "dot")[i // len(ROUND_COLORS) % 3]}
    figure.add_scatter(x=x, y=y, mode="lines+markers", name=str(escape(name)), line=line, **style)


def _color(i: int) -> str:
    return ROUND_COLORS[i % len(ROUND_COLORS)]
