"""Hull diagrams: binary systems as one picture, ternary and quaternary ones before and after a round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import combinations

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from gnome_core.compositions.formulas import NUMBERS, atomic_fractions
from gnome_core.stability.facets import hull_energies, lower_facets
from gnome_core.stability.hull import ON_HULL
from pipelines.report.data import ReportData
from pipelines.report.labels import formula_html
from pipelines.report.plots import KNOWN, MODEL, NEW, new_figure

TOP_OF_HULL = 0.3  # eV/atom: entries higher than this would flatten a binary diagram and are left out
SAME = 1e-6  # atomic fractions closer than this are one composition
# A regular triangle, the first element on top, and a regular tetrahedron: where the elements of a system stand.
TRIANGLE = np.array([[0.5, 3**0.5 / 2], [0, 0], [1, 0]])
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0.5, 3**0.5 / 2, 0], [0.5, 3**0.5 / 6, (2 / 3) ** 0.5]])


def hull_diagrams(data: ReportData, chemsys: str) -> list[tuple[str, go.Figure | dict]]:
    """(what it shows, figure) of the pictures of one system; `sections.discoveries` has the key. Of quaternary ones
    they are scenes of assets/scene.js.

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
            mode="markers+text" if "on the hull" in name else "markers",
            name=name,
            marker=marker,
            text=entries.point_labels()[rows].tolist(),
            textposition="bottom center",
            customdata=entries.hover[rows].tolist(),
            ids=entries.ids[rows].tolist(),
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
    figure = go.Figure(layout={"template": "none", "margin": {"l": 8, "r": 8, "t": 8, "b": 8}})
    sides = TRIANGLE[list(combinations(range(3), 2))]
    for name, segments, line in (
        ("sides", sides, {"color": KNOWN, "width": 1.5}),
        ("tie lines", entries.hull.edges @ TRIANGLE, {"color": MODEL, "width": 1.5}),
    ):
        x, y = _lines(segments)
        figure.add_scatter(x=x, y=y, mode="lines", name=name, line=line, hoverinfo="skip")
    for name, rows, marker in entries.groups():
        x, y = (entries.fractions[rows] @ TRIANGLE).round(4).T.tolist()
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers+text" if "on the hull" in name else "markers",
            name=name,
            marker=marker,
            text=entries.point_labels()[rows].tolist(),
            textposition="top center",
            customdata=entries.hover[rows].tolist(),
            ids=entries.ids[rows].tolist(),
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        )
    for element, (x, y), shift in zip(entries.elements, TRIANGLE, (12, -12, -12), strict=True):
        figure.add_annotation(x=x, y=y, yshift=shift, text=f"<b>{element}</b>", showarrow=False)
    figure.update_xaxes(visible=False, range=[-0.08, 1.08])
    figure.update_yaxes(visible=False, range=[-0.1, 0.98], scaleanchor="x")
    figure.update_layout(showlegend=False)
    return figure


def _quaternary(entries: SystemEntries) -> dict:
    """The tetrahedron of compositions, a scene. Of what is above the hull only compounds of all four elements are
    drawn; scene.js leaves out names that would lie over others, those of new crystals last."""
    edges = entries.hull.edges
    new = entries.fractions[entries.stable & (entries.round > 0)]
    ends = (np.abs(edges[:, :, None] - new) < SAME).all(axis=-1)  # (edges, 2, new)
    at_new = np.any(ends, axis=(1, 2))
    sides = TETRAHEDRON[list(combinations(range(4), 2))]
    lines = [
        {"from": start, "to": end, "color": color, "width": width, "name": name}
        for name, segments, color, width in (
            ("side", sides, KNOWN, 1.5),
            ("tie line", edges[~at_new] @ TETRAHEDRON, KNOWN, 0.7),
            ("tie line of a new crystal", edges[at_new] @ TETRAHEDRON, NEW, 1.5),
        )
        for start, end in segments.round(4).tolist()
    ]
    inside = (entries.fractions > SAME).all(axis=1)
    labels, balls = entries.point_labels(), []
    for name, rows, marker in entries.groups():
        stable = "on the hull" in name
        for row in np.flatnonzero(rows & (stable | inside)):
            balls.append(
                {
                    "at": (entries.fractions[row] @ TETRAHEDRON).round(4).tolist(),
                    "pixels": marker["size"] / 2,
                    "color": marker["color"],
                    "open": marker.get("symbol") == "diamond-open",
                    "title": Markup(entries.hover[row].replace("<br>", ", ")).striptags(),
                    "id": entries.ids[row],
                    "name": name,
                    "label": Markup(labels[row]).striptags() if stable else "",
                }
            )
    outward = TETRAHEDRON + 0.12 * (TETRAHEDRON - TETRAHEDRON.mean(axis=0))
    texts = [
        {"at": at, "text": element} for at, element in zip(outward.round(4).tolist(), entries.elements, strict=True)
    ]
    return {"lines": lines, "balls": balls, "texts": texts}


def _lines(edges: np.ndarray) -> list[list[float | None]]:
    """Coordinates of segments (m, 2, d) as d lists; a None between two segments lifts the pen."""
    rounded = edges.round(5)
    return [
        [value for start, end in rounded[:, :, axis].tolist() for value in (start, end, None)]
        for axis in range(edges.shape[2])
    ]
