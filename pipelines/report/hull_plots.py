"""Hull diagrams: binary systems as one picture, ternary and quaternary ones before and after a round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import combinations

import numpy as np
import plotly.graph_objects as go

from gnome_core.compositions.formulas import NUMBERS, atomic_fractions
from gnome_core.stability.facets import hull_energies, lower_facets
from gnome_core.stability.hull import ON_HULL
from pipelines.report.data import ReportData
from pipelines.report.labels import formula_html
from pipelines.report.plots import KNOWN, MODEL, NEW, new_figure

TOP_OF_HULL = 0.3  # eV/atom: entries higher than this would flatten a binary diagram and are left out
SAME = 1e-6  # atomic fractions closer than this are one composition
# A regular tetrahedron: where the four elements of a quaternary system stand.
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0.5, 3**0.5 / 2, 0], [0.5, 3**0.5 / 6, (2 / 3) ** 0.5]])


def hull_diagrams(data: ReportData, chemsys: str) -> list[tuple[str, go.Figure]]:
    """(what it shows, figure) of the pictures of one system; `sections.discoveries` has the key.

    Binary systems: the hulls of the snapshot and of all rounds in one. Ternary and quaternary ones: before and after
    the last round that put a crystal of the system on the newest hull. Raises ValueError for other systems.
    """
    elements = chemsys.split("-")
    if len(elements) not in (2, 3, 4):
        raise ValueError(f"{chemsys} has {len(elements)} elements; hulls of two to four can be drawn")
    entries = SystemEntries.of(data, elements)
    if len(elements) == 2:
        return [("", _binary(entries))]
    draw = _ternary if len(elements) == 3 else _quaternary
    whole = (entries.fractions > 0).all(axis=1) & (entries.round > 0) & (entries.e_above_hull <= ON_HULL)
    round_ = int(entries.round[whole].max(initial=1))
    return [
        (f"{when} round {round_}", draw(entries.until(newest)))
        for when, newest in (("before", round_ - 1), ("after", round_))
    ]


@dataclass(frozen=True, eq=False)
class SystemEntries:
    """The entries inside one chemical system as arrays, sorted by energy.

    fractions: (n, k) atomic fractions in the order of `elements`; e_form: (n,) eV/atom; round: (n,), 0 = snapshot;
    labels, ids: (n,) text.
    """

    elements: list[str]
    fractions: np.ndarray
    e_form: np.ndarray
    round: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    @classmethod
    def of(cls, data: ReportData, elements: list[str]) -> SystemEntries:
        table = data.hull_entries
        inside = [set(c.split("-")) <= set(elements) for c in table["chemsys"].to_pylist()]
        table = table.filter(np.array(inside, bool)).sort_by("e_form_per_atom")
        return cls(
            elements,
            atomic_fractions(table["numbers"].to_pylist())[:, [NUMBERS[e] for e in elements]],
            table["e_form_per_atom"].to_numpy(),
            table["round"].to_numpy(),
            np.array([formula_html(f) for f in table["formula"].to_pylist()], object),
            np.array(table["id"].to_pylist(), object),
        )

    def until(self, newest: int) -> SystemEntries:
        """The entries of rounds up to `newest`."""
        rows = self.round <= newest
        columns = (self.fractions, self.e_form, self.round, self.labels, self.ids)
        return SystemEntries(self.elements, *(column[rows] for column in columns))

    @cached_property
    def hull(self) -> LowerHull:
        return lower_hull(self.fractions, self.e_form)

    @cached_property
    def e_above_hull(self) -> np.ndarray:
        """(n,) eV/atom against the hull of these entries; infinite where that cannot be drawn."""
        return self.e_form - self.hull.energies(self.fractions)

    @cached_property
    def stable(self) -> np.ndarray:
        """(n,) bool: on the hull, one entry a composition."""
        stable = self.e_above_hull <= ON_HULL
        for row in np.flatnonzero(stable):  # sorted by energy: the first of a composition is its lowest
            same = (np.abs(self.fractions[:row] - self.fractions[row]) < SAME).all(axis=1)
            stable[row] = not (same & stable[:row]).any()
        return stable

    @property
    def hover(self) -> np.ndarray:
        """(n,) what the pointer shows."""
        pairs = zip(self.labels, self.ids, self.e_form, self.e_above_hull, strict=True)
        return np.array(
            [
                f"{label} ({escape(i)})<br>{e:.3f} eV/atom, {1000 * up:.0f} meV/atom above the hull"
                for label, i, e, up in pairs
            ],
            object,
        )

    def point_labels(self) -> np.ndarray:
        """(n,) names to write beside points: the corners of a diagram have theirs already."""
        return np.where(self.fractions.max(axis=1) > 1 - SAME, "", self.labels)

    def groups(self) -> Iterator[tuple[str, np.ndarray, dict]]:
        """(name, rows, marker) of the four kinds of points, drawn from back to front."""
        stable, new = self.stable, self.round > 0
        yield "known, above the hull", ~stable & ~new, {"color": KNOWN, "size": 5, "opacity": 0.55}
        yield "new, above the hull", ~stable & new, {"color": NEW, "size": 7, "symbol": "diamond-open"}
        yield "known, on the hull", stable & ~new, {"color": MODEL, "size": 9}
        yield "new, on the hull", stable & new, {"color": NEW, "size": 13, "symbol": "diamond"}


@dataclass(frozen=True, eq=False)
class LowerHull:
    """edges: (m, 2, k) atomic fractions, edge_energies: (m, 2) eV/atom, of the lines between neighbours on the hull.

    planes: (f, k) energy of each pure element on the facets, empty where there are too many or degenerate ones.
    """

    edges: np.ndarray
    edge_energies: np.ndarray
    planes: np.ndarray

    def energies(self, fractions: np.ndarray) -> np.ndarray:
        """(n,) eV/atom at fractions (n, k)."""
        if not len(self.planes):
            return np.full(len(fractions), -np.inf)
        return hull_energies(self.planes, fractions)


def lower_hull(fractions: np.ndarray, e_form: np.ndarray) -> LowerHull:
    """The lower convex hull over composition of points with fractions (n, k) that sum to one and energies (n,).

    The pure elements are always there at 0 eV/atom, the definition of a formation energy, so that the hull spans the
    whole system; an entry of an element below 0 is drawn where it is but does not pull the hull.
    """
    k = fractions.shape[1]
    below = (e_form < 0) & (fractions.max(axis=1, initial=0) < 1 - SAME)
    fractions = np.concatenate([np.eye(k), fractions[below]])
    e_form = np.concatenate([np.zeros(k), e_form[below]])
    facets = lower_facets(fractions, e_form)
    if facets is None:  # the points are drawn without lines
        return LowerHull(np.empty((0, 2, k)), np.empty((0, 2)), np.empty((0, k)))
    pairs = np.concatenate([facets.vertices[:, pair] for pair in combinations(range(k), 2)])
    edges: np.ndarray = np.unique(np.sort(pairs, axis=1), axis=0)
    return LowerHull(fractions[edges], e_form[edges], facets.distinct)


def _binary(entries: SystemEntries) -> go.Figure:
    first, second = entries.elements
    figure = new_figure(f"atomic fraction of {second} in {first}–{second}", "formation energy (eV/atom)")
    shown = entries.e_form <= TOP_OF_HULL
    for name, part, line in (
        ("hull before", entries.until(0), {"color": KNOWN, "dash": "dash", "width": 1.5}),
        ("hull now", entries, {"color": MODEL, "width": 2}),
    ):
        x, order = np.unique(part.hull.edges[:, :, 1].ravel(), return_index=True)
        energies = part.hull.edge_energies.ravel()[order]
        figure.add_scatter(x=x.tolist(), y=energies.tolist(), mode="lines", name=name, line=line, hoverinfo="skip")
    for name, rows, marker in entries.groups():
        rows = rows & shown
        figure.add_scatter(
            x=entries.fractions[rows, 1].tolist(),
            y=entries.e_form[rows].tolist(),
            mode="markers+text" if name == "new, on the hull" else "markers",
            name=name,
            marker=marker,
            text=entries.labels[rows].tolist(),
            textposition="bottom center",
            customdata=entries.hover[rows].tolist(),
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        )
    lowest = min(0.0, *entries.e_form[shown])
    highest = max(0.0, *entries.e_form[shown])
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[lowest - 0.14 * (highest - lowest), highest + 0.08 * (highest - lowest)])
    figure.update_layout(showlegend=False)
    return figure


def _ternary(entries: SystemEntries) -> go.Figure:
    figure = go.Figure(layout={"template": "none", "margin": {"l": 40, "r": 40, "t": 30, "b": 36}})
    a, b, c = _lines(entries.hull.edges)
    line = {"color": MODEL, "width": 1.5}
    figure.add_scatterternary(a=a, b=b, c=c, mode="lines", name="tie lines", line=line, hoverinfo="skip")
    for name, rows, marker in entries.groups():
        a, b, c = entries.fractions[rows].T.tolist()
        figure.add_scatterternary(
            a=a,
            b=b,
            c=c,
            mode="markers+text" if "on the hull" in name else "markers",
            name=name,
            marker=marker,
            text=entries.point_labels()[rows].tolist(),
            textposition="top center",
            customdata=entries.hover[rows].tolist(),
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        )
    axes = {
        f"{axis}axis": {"title": {"text": element}, "showticklabels": False, "showgrid": False, "ticks": ""}
        for axis, element in zip("abc", entries.elements, strict=True)
    }
    figure.update_layout(ternary=axes, showlegend=False)
    return figure


def _quaternary(entries: SystemEntries) -> go.Figure:
    """The tetrahedron of compositions. Of what is above the hull only compounds of all four elements are drawn, and
    only they and new crystals on the hull are named: with the names of the faces nothing could be read."""
    figure = go.Figure(layout={"template": "none", "margin": {"l": 0, "r": 0, "t": 0, "b": 0}})
    edges = entries.hull.edges
    new = entries.fractions[entries.stable & (entries.round > 0)]
    ends = (np.abs(edges[:, :, None] - new) < SAME).all(axis=-1)  # (edges, 2, new)
    at_new = np.any(ends, axis=(1, 2))
    sides = CORNERS[list(combinations(range(4), 2))]
    for name, segments, line in (
        ("sides", sides, {"color": KNOWN, "width": 3}),
        ("tie lines", edges[~at_new] @ CORNERS, {"color": KNOWN, "width": 1}),
        ("tie lines of new crystals", edges[at_new] @ CORNERS, {"color": NEW, "width": 3}),
    ):
        x, y, z = _lines(segments)
        figure.add_scatter3d(x=x, y=y, z=z, mode="lines", name=name, line=line, hoverinfo="skip", opacity=0.7)
    inside = (entries.fractions > SAME).all(axis=1)
    for name, rows, marker in entries.groups():
        stable = "on the hull" in name
        rows = rows & (stable | inside)
        x, y, z = (entries.fractions[rows] @ CORNERS).round(4).T.tolist()
        named = (inside | (entries.round > 0))[rows]
        figure.add_scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers+text" if stable else "markers",
            name=name,
            marker={**marker, "size": marker["size"] / 2.5},
            text=np.where(named, entries.point_labels()[rows], "").tolist(),
            textposition="top center",
            customdata=entries.hover[rows].tolist(),
            hovertemplate="%{customdata}<extra></extra>",
        )
    x, y, z = (CORNERS + 0.12 * (CORNERS - CORNERS.mean(axis=0))).round(4).T.tolist()
    figure.add_scatter3d(
        x=x, y=y, z=z, mode="text", name="elements", text=entries.elements, textfont={"size": 14}, hoverinfo="skip"
    )
    figure.update_layout(
        scene={
            **{axis: {"visible": False} for axis in ("xaxis", "yaxis", "zaxis")},
            "aspectmode": "manual",
            "aspectratio": dict(zip("xyz", 1.5 * np.ptp(CORNERS, axis=0), strict=True)),
            "dragmode": "orbit",
            # Between two opposite edges: no corner hides behind the others.
            "camera": {"eye": {"x": -1.25, "y": -0.85, "z": 0.95}, "projection": {"type": "orthographic"}},
        },
        showlegend=False,
    )
    return figure


def _lines(edges: np.ndarray) -> list[list[float | None]]:
    """Coordinates of segments (m, 2, d) as d lists; a None between two segments lifts the pen."""
    rounded = edges.round(5)
    return [
        [value for start, end in rounded[:, :, axis].tolist() for value in (start, end, None)]
        for axis in range(edges.shape[2])
    ]
