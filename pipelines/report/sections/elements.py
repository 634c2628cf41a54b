"""What all sections are made of: tables, figures and numbers as text, and the page that gathers them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import plotly.graph_objects as go
import pyarrow as pa
from markupsafe import Markup

from pipelines.reading.discoveries import StableCrystal
from pipelines.report.data import ReportData
from pipelines.report.labels import NOTHING, count, formula_html, number
from pipelines.report.quantities import shown, title
from pipelines.report.summary import RoundSummary, Share, summarize

MAX_ROWS = 200  # of an analysis' table; `gnome analyse --export` writes all of them


@dataclass(frozen=True)
class Table:
    """Cells are text or markup; the first cell of a row is its header. numeric, wide: columns set so. tall: scrolls."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Collection[int] = ()
    wide: Collection[int] = ()
    tall: bool = False


@dataclass(frozen=True)
class Figure:
    """A place on the page for the figure of this key; the caption without its markup is the alternative text."""

    key: str
    caption: str
    size: str = ""
    solid: bool = False  # a scene in three dimensions, not a plot


@dataclass(frozen=True)
class Page:
    """A report in the making: what its sections read, and what they leave for the page's scripts to draw.

    rounds: of those that evaluated anything. stable: the deepest first. figures, scenes: by the key of their place.
    crystals: one record a row of the table of discoveries.
    """

    data: ReportData
    rounds: list[RoundSummary]
    stable: list[StableCrystal]
    figures: dict[str, dict] = field(default_factory=dict)
    scenes: dict[str, dict] = field(default_factory=dict)
    crystals: list[dict] = field(default_factory=list)

    @classmethod
    def of(cls, data: ReportData) -> Page:
        """One on which nothing has been drawn yet."""
        return cls(data, summarize(data.jobs), sorted(data.stable, key=lambda s: (s.e_above_hull, s.id)))

    def figure(self, key: str, figure: go.Figure | dict, caption: str, size: str = "") -> Figure:
        """A place for a plot, or for a scene that assets/scene.js draws."""
        if isinstance(figure, dict):
            self.scenes[key] = figure
        else:
            self.figures[key] = plain_figure(figure)
        return Figure(key, caption, size, solid=isinstance(figure, dict))


def arrow_table(caption: str, table: pa.Table) -> Table:
    """The first MAX_ROWS rows of a table; formulas with subscripts, quantities in the report's units."""
    names = table.column_names
    numeric = {
        i for i, field in enumerate(table.schema) if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }
    rows = [
        [formula_html(row[name]) if name == "formula" and row[name] else shown(name, row[name]) for name in names]
        for row in table.slice(0, MAX_ROWS).to_pylist()
    ]
    header = tuple(map(title, names))
    more = f", the first {MAX_ROWS} of {len(table):,} rows" if len(table) > MAX_ROWS else ""
    return Table(caption + more, header, rows, numeric, tall=True)


def short_id(id_: str) -> Markup:
    """Digests are cut to 12 characters; the whole one is the tooltip."""
    short = id_ if len(id_) <= 16 else id_[:12] + "…"
    return Markup('<code title="{}">{}</code>').format(id_, short)


def percent(share: Share) -> str:
    """Of a share of nothing: a dash."""
    return f"{100 * share.value:.1f} %" if share.n else NOTHING


def share_text(share: Share) -> str:
    """With its interval and the counts behind it."""
    if not share.n:
        return NOTHING
    return f"{percent(share)} ({100 * share.low:.0f}–{100 * share.high:.0f} %), {share.hits} of {share.n}"


def part_text(n: int, whole: int) -> str:
    """A count and its share of the whole."""
    return f"{count(n)} ({number(100 * n / whole, 1)} %)" if whole else NOTHING


def gain_text(ratio: float) -> str:
    """Of `summary.gain`, which may be infinite or NaN."""
    if ratio == float("inf"):
        return "no random hit"
    return f"{number(ratio, 1)}×" if ratio == ratio else NOTHING


def plain_figure(figure: go.Figure) -> dict:
    """The figure as data and layout without plotly's template, which page.js replaces by the page's colours."""
    content = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return {"data": content["data"], "layout": content["layout"]}


def script_json(value: object) -> Markup:
    """JSON that cannot end the script element it stands in, whatever the strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
