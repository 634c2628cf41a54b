"""The figures of the report about rounds: plain functions from `ReportData` to plotly figures.

Colours stay legible on white and on near-black; page.js sets fonts, grids and background by the reader's theme.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from pipelines.report.data import ReportData
from pipelines.report.labels import formula_html
from pipelines.report.summary import ElementResidual, RoundSummary, Share

MODEL, RANDOM, NEW, KNOWN, PRECISION = "#3d85c8", "#a79bc4", "#e0851b", "#8a8f98", "#2a9d74"
ROUND_COLORS = ("#3d85c8", "#e0851b", "#2a9d74", "#c8518f", "#8b6fd0", "#b39524", "#56a8c9", "#d0604c")
NARROWING = ("generate", "score", "select", "emit", "evaluate", "ingest")
DISTANCE_BIN = 10  # %, of atoms to exchange, over which errors are averaged
MARGIN = {"l": 62, "r": 12, "t": 12, "b": 52}


def funnel(data: ReportData) -> go.Figure:
    """Candidates left after each stage that narrows them, a bar a round, logarithmic. Hull and training, which
    take the whole store, are in the table."""
    figure = new_figure("", "candidates left", barmode="group", yaxis_type="log", yaxis_dtick=1)
    narrowing = [s for s in data.stages if s.round > 0 and s.stage in NARROWING]
    for round_ in sorted({s.round for s in narrowing}):
        stages = [s for s in narrowing if s.round == round_]
        figure.add_bar(
            x=[s.stage for s in stages],
            # A stage that let nothing through has no bar on a logarithmic axis.
            y=[s.n_out or None for s in stages],
            name=f"round {round_}",
            marker_color=round_color(round_),
            customdata=[[s.n_in, s.n_rejected, s.n_dead] for s in stages],
            hovertemplate="%{x}: %{customdata[0]:,} in, %{y:,} out, "
            "%{customdata[1]:,} rejected, %{customdata[2]:,} dead<extra>%{fullData.name}</extra>",
        )
    most = max((s.n_out for s in narrowing), default=1)
    figure.update_yaxes(range=[-0.3, np.log10(max(most, 10)) + 0.1])  # a stage with one row still shows a bar
    figure.update_xaxes(categoryorder="array", categoryarray=NARROWING)
    return figure


def generated(data: ReportData) -> go.Figure:
    """New candidates by round and number of elements, stacked by generator."""
    figure = new_figure("elements in the candidate", "recipes of new compositions", barmode="stack")
    new = {(g.round, g.n_elements, g.generator): g.new for g in data.generated}
    groups = sorted({key[:2] for key in new})
    for name, color in zip(sorted({g.generator for g in data.generated}), ROUND_COLORS, strict=False):
        figure.add_bar(
            # Every bar has every group, zero or not: plotly orders groups as it meets them.
            x=[[f"round {round_}" for round_, _ in groups], [str(k) for _, k in groups]],
            y=[new.get((*group, name), 0) for group in groups],
            name=name,
            marker_color=color,
            hovertemplate="%{x}: %{y:,}<extra>" + name + "</extra>",
        )
    return figure


def search_volumes(data: ReportData) -> go.Figure:
    """Share of random structures that converged, by the factor of their first volume, a line a round."""
    figure = new_figure("first volume over the sum of atomic volumes", "relaxations that converged (%)")
    for searches in data.searches:
        edges = np.array(searches.volume_edges)
        runs, converged = np.array(searches.volume_runs), np.array(searches.volume_converged)
        share = 100 * converged / np.maximum(runs, 1)
        figure.add_bar(
            x=((edges[1:] + edges[:-1]) / 2).tolist(),
            y=np.where(runs > 0, share, np.nan).tolist(),
            name=f"round {searches.round}",
            marker_color=round_color(searches.round),
            customdata=np.stack([converged, runs, edges[:-1], edges[1:]], axis=1).tolist(),
            hovertemplate="%{customdata[2]:.2f} to %{customdata[3]:.2f}: %{customdata[0]} of %{customdata[1]}"
            "<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(barmode="group")
    figure.update_yaxes(range=[0, 100])
    return figure


def hit_rates(rounds: list[RoundSummary]) -> go.Figure:
    """Share of evaluated crystals at or below the hull, with 95 % binomial intervals, a group of bars a round."""
    figure = new_figure("", "share of evaluated crystals (%)", barmode="group")
    series = (
        ("hit rate, model", MODEL, [r.model for r in rounds]),
        ("hit rate, random baseline", RANDOM, [r.random for r in rounds]),
        ("precision of “predicted stable”", PRECISION, [r.precision for r in rounds]),
    )
    for name, color, shares in series:
        figure.add_bar(
            x=[f"round {r.round}" for r in rounds],
            y=[100 * s.value for s in shares],
            name=name,
            marker_color=color,
            customdata=[[s.hits, s.n] for s in shares],
            hovertemplate="%{y:.1f} % (%{customdata[0]} of %{customdata[1]})<extra>" + name + "</extra>",
            error_y=interval_bars(shares, thickness=1.5),
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def interval_bars(shares: Sequence[Share], thickness: float) -> dict:
    """Plotly's error bars of shares drawn in %: their intervals."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (share.high - share.value) for share in shares],
        "arrayminus": [100 * (share.value - share.low) for share in shares],
        "color": KNOWN,
        "thickness": thickness,
    }


def parity(data: ReportData, rounds: list[RoundSummary]) -> go.Figure:
    """Predicted (ensemble median) against evaluated formation energy; the dashed line is perfect agreement."""
    figure = new_figure("evaluated formation energy (eV/atom)", "predicted (eV/atom)")
    jobs = _evaluated(data)
    both = np.concatenate([jobs["e_form"], jobs["predicted"]])
    if len(both):
        ends = [float(both.min()), float(both.max())]
        figure.add_scatter(
            x=ends, y=ends, mode="lines", line={"color": KNOWN, "dash": "dash"}, hoverinfo="skip", showlegend=False
        )
    for summary in rounds:
        chosen = jobs["round"] == summary.round
        figure.add_scatter(
            x=jobs["e_form"][chosen].tolist(),
            y=jobs["predicted"][chosen].tolist(),
            mode="markers",
            name=f"round {summary.round}: MAE {1000 * summary.mae:.0f} meV/atom (n = {int(chosen.sum())})",
            marker={"color": round_color(summary.round), "size": 6, "opacity": 0.7},
            text=jobs["formula"][chosen].tolist(),
            hovertemplate="%{text}: evaluated %{x:.3f}, predicted %{y:.3f} eV/atom<extra></extra>",
        )
    return figure


def coverage(rounds: list[RoundSummary]) -> go.Figure:
    """Share of evaluations inside the ensemble's central intervals against the share expected there."""
    figure = new_figure("expected inside the interval (%)", "found inside (%)")
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"color": KNOWN, "dash": "dash"}, name="calibrated", hoverinfo="skip"
    )
    for summary in rounds:
        figure.add_scatter(
            x=(100 * summary.calibration.levels).tolist(),
            y=(100 * summary.calibration.coverage).tolist(),
            mode="lines+markers",
            name=f"round {summary.round}",
            line={"color": round_color(summary.round)},
            hovertemplate="%{y:.0f} % found, %{x:.0f} % expected<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(range=[0, 100])
    figure.update_yaxes(range=[0, 100])
    return figure


def error_against_spread(data: ReportData, rounds: list[RoundSummary]) -> go.Figure:
    """|error| of each prediction against the ensemble's spread, logarithmic; lines join the means of five bins."""
    figure = new_figure("IQR of the ensemble (meV/atom)", "|error| (meV/atom)", xaxis_type="log", yaxis_type="log")
    ticks = [digit * 10**power for power in range(-1, 5) for digit in (1, 3)]
    figure.update_xaxes(tickvals=ticks)
    figure.update_yaxes(tickvals=ticks)
    jobs = _evaluated(data)
    error = np.abs(jobs["predicted"] - jobs["e_form"])
    for summary in rounds:
        chosen = jobs["round"] == summary.round
        figure.add_scatter(
            x=np.maximum(1000 * jobs["iqr"][chosen], 0.1).tolist(),
            y=np.maximum(1000 * error[chosen], 0.1).tolist(),
            mode="markers",
            name=f"round {summary.round}",
            marker={"color": round_color(summary.round), "size": 6, "opacity": 0.6},
            text=jobs["formula"][chosen].tolist(),
            hovertemplate="%{text}: spread %{x:.1f}, error %{y:.1f} meV/atom<extra></extra>",
        )
        figure.add_scatter(
            x=(1000 * summary.calibration.bin_iqr).tolist(),
            y=(1000 * summary.calibration.bin_mae).tolist(),
            mode="lines",
            name=f"MAE, round {summary.round}",
            line={"color": round_color(summary.round), "width": 2},
            hovertemplate="spread %{x:.1f}, MAE %{y:.1f} meV/atom<extra>%{fullData.name}</extra>",
        )
    return figure


def element_errors(residuals: Sequence[ElementResidual]) -> go.Figure:
    """MAE (bars) and mean error (marks) of predictions by element."""
    figure = new_figure("", "error (meV/atom)")
    elements, counts = [r.element for r in residuals], [[r.n] for r in residuals]
    hover = "%{x}: %{y:.0f} meV/atom, %{customdata[0]} crystals<extra>"
    figure.add_bar(
        x=elements,
        y=[1000 * r.mae for r in residuals],
        name="mean absolute error",
        marker_color=MODEL,
        customdata=counts,
        hovertemplate=hover + "mean absolute error</extra>",
    )
    figure.add_scatter(
        x=elements,
        y=[1000 * r.mean for r in residuals],
        name="mean of predicted − evaluated",
        mode="markers",
        marker={"color": NEW, "size": 8, "symbol": "diamond"},
        customdata=counts,
        hovertemplate=hover + "mean error</extra>",
    )
    figure.update_xaxes(type="category")
    return figure


def error_against_distance(data: ReportData, shares: np.ndarray) -> go.Figure:
    """|error| of each prediction against `novel_shares` (jobs,), one colour a round; the line joins means of bins."""
    figure = new_figure("atoms to exchange for a known composition (%)", "|error| (meV/atom)", yaxis_type="log")
    jobs = _evaluated(data)
    x = 100 * shares[data.jobs["e_form"].is_valid().to_numpy()]
    placed = np.isfinite(x)
    x, jobs = x[placed], {name: column[placed] for name, column in jobs.items()}
    error = 1000 * np.abs(jobs["predicted"] - jobs["e_form"])
    for round_ in np.unique(jobs["round"]).tolist():
        chosen = jobs["round"] == round_
        figure.add_scatter(
            x=x[chosen].tolist(),
            y=np.maximum(error[chosen], 0.1).tolist(),
            mode="markers",
            name=f"round {round_}",
            marker={"color": round_color(round_), "size": 6, "opacity": 0.6},
            text=jobs["formula"][chosen].tolist(),
            hovertemplate="%{text}: %{x:.0f} %, error %{y:.1f} meV/atom<extra></extra>",
        )
    bins = np.minimum(x // DISTANCE_BIN, 100 // DISTANCE_BIN - 1).astype(int)
    means = [(DISTANCE_BIN * (k + 0.5), float(error[bins == k].mean())) for k in np.unique(bins).tolist()]
    figure.add_scatter(
        x=[middle for middle, _ in means],
        y=[mean for _, mean in means],
        mode="lines+markers",
        name="MAE, all rounds",
        line={"color": KNOWN, "width": 2},
        hovertemplate=f"within {DISTANCE_BIN} %: MAE %{{y:.0f}} meV/atom<extra></extra>",
    )
    return figure


def member_errors(data: ReportData) -> go.Figure:
    """Validation MAE of every ensemble member after each round's training, by framework."""
    figure = new_figure("", "validation MAE (meV/atom)")
    frameworks = sorted({m.framework for m in data.members}, reverse=True)
    for framework in frameworks:
        for round_ in sorted({m.round for m in data.members}):
            members = [m for m in data.members if (m.round, m.framework) == (round_, framework)]
            figure.add_scatter(
                x=[f"round {round_}" + (f", {framework}" if len(frameworks) > 1 else "")] * len(members),
                y=[1000 * m.val_mae for m in members],
                mode="markers",
                name=f"round {round_}",
                marker={"color": round_color(round_), "size": 10, "opacity": 0.75},
                text=[f"member {m.member}" for m in members],
                hovertemplate="%{text}: %{y:.1f} meV/atom<extra>%{fullData.name}</extra>",
            )
    figure.update_layout(showlegend=False)
    figure.update_yaxes(rangemode="tozero")
    return figure


def learning_curves(data: ReportData) -> go.Figure:
    """Training loss (lines) and validation MAE (marks) of every member against its epochs, a colour a round."""
    figure = new_figure("epoch", "error (meV/atom)", yaxis_type="log")
    several = len({curve.framework for curve in data.curves}) > 1
    named: set[str] = set()
    for curve in sorted(data.curves, key=lambda c: (c.framework, c.round, c.member)):
        name = f"round {curve.round}" + (f", {curve.framework}" if several else "")
        validated = [(epoch, 1000 * v) for epoch, v in zip(curve.epochs, curve.val_mae, strict=True) if v is not None]
        style = {"color": round_color(curve.round), "width": 1.5}
        if several and curve.framework == "compositional":
            style["dash"] = "dot"
        figure.add_scatter(
            x=list(curve.epochs),
            y=[1000 * loss for loss in curve.train_loss],
            mode="lines",
            line=style,
            name=name,
            legendgroup=name,
            showlegend=name not in named,
            hovertemplate=f"member {curve.member}, epoch %{{x}}: loss %{{y:.1f}} meV/atom<extra>{name}</extra>",
        )
        figure.add_scatter(
            x=[epoch for epoch, _ in validated],
            y=[mae for _, mae in validated],
            mode="markers",
            marker={"color": round_color(curve.round), "size": 7, "symbol": "diamond-open"},
            name=name,
            legendgroup=name,
            showlegend=False,
            hovertemplate=f"member {curve.member}, epoch %{{x}}: validation %{{y:.1f}} meV/atom<extra>{name}</extra>",
        )
        named.add(name)
    return figure


def timings(data: ReportData) -> go.Figure:
    """Wall seconds of each committed stage, stacked over the rounds."""
    figure = new_figure("wall time (s)", "", barmode="stack")
    for round_ in data.rounds:
        stages = [s for s in data.stages if s.round == round_]
        figure.add_bar(
            y=[s.stage for s in stages],
            x=[s.seconds for s in stages],
            orientation="h",
            name=f"round {round_}",
            marker_color=round_color(round_),
            hovertemplate="%{y}: %{x:.1f} s<extra>%{fullData.name}</extra>",
        )
    figure.update_yaxes(categoryorder="array", categoryarray=_stage_order(data), autorange="reversed")
    figure.update_layout(margin={**MARGIN, "l": 82}, legend_traceorder="normal")
    return figure


def round_color(round_: int) -> str:
    return KNOWN if round_ == 0 else ROUND_COLORS[(round_ - 1) % len(ROUND_COLORS)]


def new_figure(x_title: str, y_title: str, **layout) -> go.Figure:
    return go.Figure(
        layout={
            "template": "none",
            "margin": MARGIN if x_title else {**MARGIN, "b": 32},
            "xaxis_showgrid": bool(x_title),  # no lines through categories
            "xaxis_title_text": x_title,
            "yaxis_title_text": y_title,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            **layout,
        }
    )


def _stage_order(data: ReportData) -> list[str]:
    """Stages as the newest round ran them, after those that only earlier rounds ran."""
    order: list[str] = []
    for round_ in reversed(data.rounds):
        stages = dict.fromkeys(s.stage for s in data.stages if s.round == round_)
        order = [s for s in stages if s not in order] + order
    return order


def _evaluated(data: ReportData) -> dict[str, np.ndarray]:
    """The jobs that have an energy, as arrays; `formula` with subscripts."""
    table = data.jobs.filter(data.jobs["e_form"].is_valid())
    return {
        "round": table["round"].to_numpy(),
        "formula": np.array([formula_html(f) for f in table["formula"].to_pylist()], object),
        "predicted": table["predicted_e_form"].to_numpy(),
        "iqr": table["predicted_iqr"].to_numpy(),
        "e_form": table["e_form"].to_numpy(),
    }
