"""What all sections are made of: tables, figures and numbers as HTML, and the page that gathers them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from html import escape

import plotly.graph_objects as go
import pyarrow as pa

from pipelines.reading.discoveries import StableCrystal
from pipelines.report.data import ReportData
from pipelines.report.labels import NOTHING, cell, count, formula_html, number
from pipelines.report.summary import RoundSummary, Share, summarize

MAX_ROWS = 200  # of an analysis' table; `gnome analyse --export` writes all of them


@dataclass(frozen=True)
class Page:
    """A report in the making: what its sections read, and what they leave for the page's script to draw.

    rounds: of those that evaluated anything. stable: the deepest first. figures, views: by the key of their place.
    """

    data: ReportData
    rounds: list[RoundSummary]
    stable: list[StableCrystal]
    figures: dict[str, dict] = field(default_factory=dict)
    views: dict[str, dict] = field(default_factory=dict)

    @classmethod
    def of(cls, data: ReportData) -> Page:
        """One on which nothing has been drawn yet."""
        return cls(data, summarize(data), sorted(data.stable, key=lambda s: (s.e_above_hull, s.id)))

    def figure(self, key: str, figure: go.Figure, caption: str, size: str = "") -> str:
        """A place for the figure; `caption` is HTML and, stripped of its subscripts, the alternative text."""
        self.figures[key] = plain_figure(figure)
        alt = caption.replace("<sub>", "").replace("</sub>", "").replace('"', "&quot;")
        return (
            f'<figure><div class="plot {size}" data-figure="{escape(key)}" role="img" aria-label="{alt}"></div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )


def html_table(
    caption: str,
    header: tuple[str, ...],
    rows: list[list[str]],
    numeric: Collection[int] = (),
    wide: Collection[int] = (),
    row_attributes: list[str] | None = None,
    tall: bool = False,
) -> str:
    """A table whose cells are HTML already; the first cell of a row is its header. Scrolls sideways on a phone."""
    kind = {**dict.fromkeys(numeric, ' class="n"'), **dict.fromkeys(wide, ' class="reasons"')}
    head = "".join(f'<th scope="col"{kind.get(i, "")}>{name}</th>' for i, name in enumerate(header))
    body = []
    for row, attributes in zip(rows, row_attributes or [""] * len(rows), strict=True):
        first, *rest = row
        cells = "".join(f"<td{kind.get(i, '')}>{cell}</td>" for i, cell in enumerate(rest, start=1))
        body.append(f'<tr {attributes}><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll{" tall" if tall else ""}" tabindex="0" role="region" aria-label="{caption}">'
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def arrow_table(caption: str, table: pa.Table) -> str:
    """The first MAX_ROWS rows of a table, folded; formulas with subscripts, numbers to three digits."""
    names = table.column_names
    numeric = {
        i for i, field in enumerate(table.schema) if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }
    rows = [
        [formula_html(row[name]) if name == "formula" and row[name] else cell(row[name]) for name in names]
        for row in table.slice(0, MAX_ROWS).to_pylist()
    ]
    header = tuple(escape(name.replace("_", " ")) for name in names)
    more = f", the first {MAX_ROWS} of {len(table):,} rows" if len(table) > MAX_ROWS else ""
    return (
        f"<details><summary>{caption}{more}</summary>{html_table(caption, header, rows, numeric, tall=True)}</details>"
    )


def short_id(id_: str) -> str:
    """Digests are cut to 12 characters; the whole one is the tooltip."""
    short = id_ if len(id_) <= 16 else id_[:12] + "…"
    return f'<code title="{escape(id_)}">{escape(short)}</code>'


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


def script_json(value: object) -> str:
    """JSON that cannot end the script element it stands in, whatever the strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
