"""The pictures of analyses: one plain function each, from the analysis' tables to plotly figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import plotly.graph_objects as go
import pyarrow.compute as pc

from gnome_core.analysis.confirmation import PREFIX
from gnome_core.analysis.phase_separation import NEW as NEW_CRYSTALS
from gnome_core.analysis.phase_separation import SNAPSHOT
from gnome_core.analysis.result import Analysis
from gnome_core.matching.novelty import NEW as UNKNOWN
from pipelines.report.labels import formula_html
from pipelines.report.plots import KNOWN, MODEL, NEW, PRECISION, RANDOM, new_figure, round_color

ELEMENT_COLORS = ("#8a8f98", "#56a8c9", "#3d85c8", "#2a9d74", "#b39524", "#e0851b", "#c8518f", "#8b6fd0")


Picture = tuple[str, go.Figure]  # caption, figure


def figures(analysis: Analysis) -> list[Picture]:
    """The analysis' pictures; none where its first table is empty."""
    if not len(next(iter(analysis.tables.values()))):
        return []
    return FIGURES["confirm" if analysis.name.startswith(PREFIX) else analysis.name](analysis)


def _discovery(analysis: Analysis) -> list[Picture]:
    rows = analysis.tables["metrics"].to_pylist()
    drawn = []
    for group, title in (("round", "round"), ("elements", "number of elements")):
        figure = new_figure(title, "share of evaluated crystals (%)", barmode="group")
        chosen = [row for row in rows if row["group"] == group]
        for column, name, color in (
            ("hit_rate_model", "hit rate, model", MODEL),
            ("hit_rate_random", "hit rate, random", RANDOM),
            ("precision", "precision", PRECISION),
        ):
            figure.add_bar(
                x=[row["value"] for row in chosen],
                y=[100 * row[column] if row[column] == row[column] else None for row in chosen],
                name=name,
                marker_color=color,
                customdata=[row["evaluated"] for row in chosen],
                hovertemplate="%{y:.1f} % of %{customdata} evaluated<extra>" + name + "</extra>",
            )
        figure.update_xaxes(type="category")
        figure.update_yaxes(rangemode="tozero")
        drawn.append((f"Hit rate and precision by {title}", figure))
    return drawn


def _growth(analysis: Analysis) -> list[Picture]:
    table = analysis.tables["counts"].to_pylist()
    rounds = sorted({row["round"] for row in table})
    drawn = []
    for column, title in (("stable", "Stable crystals"), ("stable_new", "New stable crystals")):
        figure = new_figure("round", title.lower(), barmode="stack")
        for k in sorted({row["elements"] for row in table}):
            counts = {row["round"]: row[column] for row in table if row["elements"] == k}
            if not any(counts.values()):
                continue
            figure.add_bar(
                x=[str(r) for r in rounds],
                y=[counts.get(r, 0) for r in rounds],
                name=f"{k} elements" if k > 1 else "one element",
                marker_color=ELEMENT_COLORS[min(k, len(ELEMENT_COLORS)) - 1],
                hovertemplate="round %{x}: %{y}<extra>%{fullData.name}</extra>",
            )
        figure.update_xaxes(type="category")
        most = max(sum(row[column] for row in table if row["round"] == r) for r in rounds)
        drawn.append((f"{title} after each round, by number of elements", _whole_numbers(figure, "y", most)))
    return drawn


def _displaced(analysis: Analysis) -> list[Picture]:
    table = analysis.tables["displaced"]
    figure = new_figure("distance to the hull now (meV/atom)", "displaced entries")
    edges = np.histogram_bin_edges(1000 * table["e_above_hull"].to_numpy(), bins=30)
    for round_ in sorted(set(table["displaced_in_round"].to_pylist())):
        rows = table.filter(pc.equal(table["displaced_in_round"], round_))
        _add_histogram(figure, 1000 * rows["e_above_hull"].to_numpy(), edges, f"round {round_}", round_color(round_))
    figure.update_layout(barmode="stack")
    return [("How far above the hull displaced entries are now, by the round that displaced them", figure)]


def _phase_separation(analysis: Analysis) -> list[Picture]:
    """One picture a number of elements that both have, shares of crystals rather than counts."""
    crystals, drawn = analysis.tables["crystals"], []
    for k in sorted(set(crystals["elements"].to_pylist())):
        own = crystals.filter(pc.equal(crystals["elements"], k))
        figure = new_figure("phase-separation energy (meV/atom)", "share of crystals (%)", barmode="overlay")
        edges = np.histogram_bin_edges(1000 * own["phase_separation_energy"].to_numpy(), bins=40)
        for of, name, color in ((SNAPSHOT, "snapshot", KNOWN), (NEW_CRYSTALS, "new", NEW)):
            energies = 1000 * own.filter(pc.equal(own["of"], of))["phase_separation_energy"].to_numpy()
            if len(energies):
                _add_histogram(figure, energies, edges, f"{name} ({len(energies)})", color, share=True)
        figure.update_traces(opacity=0.65)
        drawn.append((f"Phase-separation energies of stable crystals of {k} elements", figure))
    return drawn


def _prototypes(analysis: Analysis) -> list[Picture]:
    rows = analysis.tables["prototypes"].to_pylist()[:30]
    figure = new_figure("new stable crystals", "", margin={"l": 190, "r": 12, "t": 12, "b": 52})
    for novel, name, color in ((True, "novel", NEW), (False, "known to the snapshot", KNOWN)):
        chosen = [row for row in rows if row["novel"] == novel]
        figure.add_bar(
            y=[row["prototype"] for row in chosen],
            x=[row["crystals"] for row in chosen],
            orientation="h",
            name=name,
            marker_color=color,
            customdata=[formula_html(row["formula"]) for row in chosen],
            hovertemplate="%{y}: %{x}, such as %{customdata}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", dtick=1)
    figure.update_layout(height=max(360, 90 + 18 * len(rows)))
    most = max(row["crystals"] for row in rows)
    return [("Prototypes of new stable crystals, novel ones first", _whole_numbers(figure, "x", most))]


def _layered(analysis: Analysis) -> list[Picture]:
    table = analysis.tables["crystals"]
    kinds = [*(k for k in ("0D", "1D", "2D", "3D")), "intercalated ion", "intercalated molecule", "failed"]
    figure = new_figure("", "stable crystals", barmode="stack")
    for name, rows, color in (
        ("snapshot", table.filter(pc.equal(table["round"], 0)), KNOWN),
        ("new", table.filter(pc.greater(table["round"], 0)), NEW),
    ):
        counts = Counter(rows["cheon"].to_pylist())
        if counts:
            figure.add_bar(x=kinds, y=[counts[kind] for kind in kinds], name=name, marker_color=color)
    most = max(Counter(table["cheon"].to_pylist()).values())
    return [("Dimensionality of stable crystals", _whole_numbers(figure, "y", most))]


def _li_conductors(analysis: Analysis) -> list[Picture]:
    windows = new_figure("reduction potential (V against Li/Li⁺)", "oxidation potential (V against Li/Li⁺)")
    for candidate, name, color in ((False, "filtered out", KNOWN), (True, "candidate", NEW)):
        chosen = [row for row in analysis.tables["crystals"].to_pylist() if row["candidate"] == candidate]
        windows.add_scatter(
            x=[row["reduction_potential"] for row in chosen],
            y=[row["oxidation_potential"] for row in chosen],
            mode="markers",
            name=name,
            marker={"color": color, "size": 7, "opacity": 0.75},
            text=[formula_html(row["formula"]) for row in chosen],
            hovertemplate="%{text}: %{x:.2f} to %{y:.2f} V<extra></extra>",
        )
    return [
        _waterfall(analysis),
        ("Electrochemical windows of the crystals with lithium", windows),
    ]


def _waterfall(analysis: Analysis) -> Picture:
    steps = analysis.tables["waterfall"].to_pylist()
    names = [step["filter"] for step in steps]
    figure = new_figure(
        "crystals", "", barmode="stack", margin={"l": 8 * max(map(len, names)), "r": 12, "t": 12, "b": 52}
    )
    for name, color, counts in (
        ("left", MODEL, [step["left"] for step in steps]),
        ("removed here", "#c9ced6", [step["removed"] - step["unknown"] for step in steps]),
        ("removed, nothing known", RANDOM, [step["unknown"] for step in steps]),
    ):
        if any(counts):
            text = [str(n) if n else "" for n in counts]
            figure.add_bar(y=names, x=counts, orientation="h", name=name, marker_color=color, text=text)
    figure.update_yaxes(autorange="reversed")
    most = max(step["left"] + step["removed"] for step in steps)
    return "Crystals left after each filter", _whole_numbers(figure, "x", most)


def _credibility(analysis: Analysis) -> list[Picture]:
    return [_waterfall(analysis)]


def _confirm(analysis: Analysis) -> list[Picture]:
    figure = new_figure("first evaluator, to the hull (meV/atom)", "this judge, to its hull (meV/atom)")
    answered = [row for row in analysis.tables["crystals"].to_pylist() if row["e_above_hull"] is not None]
    for name, color, unknown in (("unknown composition", NEW, True), ("known", MODEL, False)):
        rows = [row for row in answered if (row["novelty"] == UNKNOWN) == unknown]
        first = [1000 * (row["e_above_hull"] - row["e_above_hull_shift"]) for row in rows]
        figure.add_scatter(
            x=first,
            y=[1000 * row["e_above_hull"] for row in rows],
            text=[row["formula"] for row in rows],
            mode="markers",
            marker_color=color,
            name=name,
        )
    return [("Distance to the hull without the crystal, by each judge on its own hull", figure)]


def _li_mn_oxides(analysis: Analysis) -> list[Picture]:
    rows = analysis.tables["crystals"].to_pylist()
    metals = sorted({row["metal"] for row in rows})
    figure = new_figure("Li–Mn–M–O, M =", "entries", barmode="stack")
    for name, color, inside in (
        ("stable, new", NEW, lambda row: row["on_hull"] and row["round"] > 0),
        ("stable, of the snapshot", MODEL, lambda row: row["on_hull"] and row["round"] == 0),
        ("above the hull", "#c9ced6", lambda row: not row["on_hull"]),
    ):
        counts = Counter(row["metal"] for row in rows if inside(row))
        figure.add_bar(x=metals, y=[counts[metal] for metal in metals], name=name, marker_color=color)
    most = max(Counter(row["metal"] for row in rows).values())
    return [("Entries of the family by transition metal", _whole_numbers(figure, "y", most))]


def _scaling(analysis: Analysis) -> list[Picture]:
    table = analysis.tables["members"]
    figure = new_figure(
        "training crystals", "validation MAE (meV/atom)", xaxis_type="log", yaxis_type="log", showlegend=False
    )
    for round_ in sorted(set(table["round"].to_pylist())):
        rows = table.filter(pc.equal(table["round"], round_))
        figure.add_scatter(
            x=rows["n_train"].to_pylist(),
            y=(1000 * rows["val_mae"].to_numpy()).tolist(),
            mode="markers",
            name=f"round {round_}",
            marker={"color": round_color(round_), "size": 9, "opacity": 0.75},
            hovertemplate="%{x} crystals: %{y:.1f} meV/atom<extra>%{fullData.name}</extra>",
        )
    if "fitted" in table.column_names:
        size, fitted = table["n_train"].to_numpy(), table["fitted"].to_numpy()
        order = np.argsort(size)
        exponent = analysis.summary["exponent"]
        figure.add_scatter(
            x=size[order].tolist(),
            y=(1000 * fitted[order]).tolist(),
            mode="lines",
            name=f"size^{exponent:.2f}",
            line={"color": KNOWN, "dash": "dash"},
        )
    return [("Validation error of each member against the crystals it was trained on", figure)]


def _experimental(analysis: Analysis) -> list[Picture]:
    names = ["files", "readable", "composition found", "structure found, tolerant", "structure found, default"]
    figure = new_figure("", "files")
    counts = [analysis.summary[name] for name in names]
    figure.add_bar(x=names, y=counts, marker_color=MODEL, text=counts, textposition="auto")
    return [("Experimental files, and how far each was found", _whole_numbers(figure, "y", max(counts)))]


def _r2scan(analysis: Analysis) -> list[Picture]:
    table = analysis.tables["crystals"]
    figure = new_figure("r2SCAN phase-separation energy (meV/atom)", "stable crystals", barmode="stack")
    edges = np.histogram_bin_edges(1000 * table["phase_separation_energy"].to_numpy(), bins=40)
    for k in sorted(set(table["elements"].to_pylist())):
        rows = table.filter(pc.equal(table["elements"], k))
        color = ELEMENT_COLORS[min(k, len(ELEMENT_COLORS)) - 1]
        _add_histogram(figure, 1000 * rows["phase_separation_energy"].to_numpy(), edges, f"{k} elements", color)
    figure.add_vline(x=0, line={"color": KNOWN, "dash": "dash"})
    return [("Phase-separation energies of stable crystals with r2SCAN: left of the line they stay stable", figure)]


def _novelty(analysis: Analysis) -> list[Picture]:
    figure = new_figure("", "crystals")
    levels, counts = zip(*list(analysis.summary.items())[2:], strict=True)  # older versions called them otherwise
    figure.add_bar(x=levels, y=counts, marker_color=[NEW, PRECISION, KNOWN], text=counts, textposition="auto")
    return [("What the other collection does not hold", _whole_numbers(figure, "y", max(counts)))]


def _additions(analysis: Analysis) -> list[Picture]:
    table = analysis.tables["counts"]
    figure = new_figure("number of elements", "compositions", barmode="group")
    for column, name, color in (
        ("snapshot", "stable in the snapshot", KNOWN),
        ("new_stable", "new and stable here", MODEL),
        ("added", "added by the other collection", RANDOM),
        ("found", "of these found here", NEW),
        ("same_structure", "with the same structure", PRECISION),
    ):
        figure.add_bar(x=table["elements"].to_pylist(), y=table[column].to_pylist(), name=name, marker_color=color)
    figure.update_xaxes(type="category")
    most = max(max(table[name].to_pylist()) for name in table.column_names[1:])
    return [("Compositions here and in the other collection", _whole_numbers(figure, "y", most))]


def _replay(analysis: Analysis) -> list[Picture]:
    """Stable crystals found against evaluations and against estimated cost: mean of the campaigns, and their range."""
    rows = analysis.tables["curves"].to_pylist()
    names = {
        "ours": "ours",
        "random": "random",
        "uncertainty": "most uncertain",
        "lcb": "lower confidence bound",
        "cheapest": "cheapest",
    }
    drawn = []
    for axis, title in (("evaluations", "evaluations"), ("cost", "estimated DFT cost (two silicon atoms = 1)")):
        figure = new_figure(title, "stable crystals found")
        for policy, color in zip(names, (NEW, KNOWN, RANDOM, MODEL, PRECISION), strict=True):
            campaigns = [row for row in rows if row["policy"] == policy]
            if not campaigns:
                continue
            by_round = {r: [row for row in campaigns if row["round"] == r] for r in {row["round"] for row in campaigns}}
            x = [0.0, *(float(np.mean([row[axis] for row in by_round[r]])) for r in sorted(by_round))]
            found = [np.array([row["found"] for row in by_round[r]]) for r in sorted(by_round)]
            middle = [0.0, *(float(f.mean()) for f in found)]
            figure.add_scatter(
                x=x,
                y=middle,
                mode="lines+markers",
                name=names[policy],
                line={"color": color},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [0.0, *(float(f.max() - f.mean()) for f in found)],
                    "arrayminus": [0.0, *(float(f.mean() - f.min()) for f in found)],
                    "thickness": 1.2,
                },
                hovertemplate="%{y:.1f} found for %{x:,.0f}<extra>%{fullData.name}</extra>",
            )
        drawn.append((f"Stable crystals found against {title}: mean and range over seeds", figure))
    return drawn


def _add_histogram(
    figure: go.Figure, values: np.ndarray, edges: np.ndarray, name: str, color: str, share: bool = False
) -> None:
    """Bars of the counts between the edges, or their shares in %; drawn as bars, for the page's plotly.js has no
    histograms."""
    counts = np.histogram(values, edges)[0] * (100 / len(values) if share else 1)
    middles = (edges[1:] + edges[:-1]) / 2
    figure.add_bar(x=middles.tolist(), y=counts.tolist(), width=np.diff(edges).tolist(), name=name, marker_color=color)


def _whole_numbers(figure: go.Figure, axis: str, largest: int) -> go.Figure:
    """The figure with ticks at whole numbers on the axis of a count, which begins at 0."""
    figure.update_layout({f"{axis}axis": {"rangemode": "tozero", "dtick": 1 if largest < 8 else None}})
    return figure


FIGURES: Mapping[str, Callable[[Analysis], list[Picture]]] = {
    "confirm": _confirm,
    "credibility": _credibility,
    "discovery": _discovery,
    "growth": _growth,
    "displaced": _displaced,
    "phase-separation": _phase_separation,
    "prototypes": _prototypes,
    "layered": _layered,
    "li-conductors": _li_conductors,
    "li-mn-oxides": _li_mn_oxides,
    "scaling": _scaling,
    "experimental": _experimental,
    "r2scan": _r2scan,
    "novelty": _novelty,
    "additions": _additions,
    "replay": _replay,
}
