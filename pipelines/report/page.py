"""`write_report`: `ReportData` -> one HTML file that opens without a network. Called by the driver and `gnome report`.

The page's frame, style and script are page.html, page.css and page.js beside this module.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import plotly.graph_objects as go
import pyarrow as pa
from plotly.offline import get_plotlyjs

from pipelines.reading.analyses import StoredAnalysis
from pipelines.reading.discoveries import ProvenanceStep, StableCrystal
from pipelines.report import plots
from pipelines.report.analysis_plots import figures
from pipelines.report.data import ReportData, StageCounts
from pipelines.report.hull_plots import hull_diagrams
from pipelines.report.labels import NOTHING, cell, count, duration, formula_html, mapping_text, milli, number
from pipelines.report.structure_view import cell_view, space_group
from pipelines.report.summary import RoundSummary, Share, gain, origins, over_all, search_hits, summarize

MAX_CRYSTALS = 200  # rows of the table, each with its 3-D view: about 5 kB a crystal
MAX_HULLS = 24
MAX_ROOTS = 100
MAX_UNPACKED = 50
MAX_SEARCHED = 500
MAX_QUATERNARY = 3  # two solid pictures each, and browsers keep few of those at once
MAX_ROWS = 200  # of an analysis' table; `gnome analyse --export` writes all of them
# Nothing but what the file itself holds; plotly.js draws its icons and downloads as data and blob addresses.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
HULL_KEY = "".join(
    f'<span><span aria-hidden="true" style="color:{color}">{mark}</span> {meaning}</span> '
    for mark, color, meaning in (
        ("◆", plots.NEW, "new, on the hull"),
        ("◇", plots.NEW, "new, above it"),
        ("●", plots.MODEL, "known, on the hull"),
        ("•", plots.KNOWN, "known, above it"),
        ("━", plots.MODEL, "hull"),
        ("┅", plots.KNOWN, "hull of the snapshot (two elements)"),
    )
)


def write_report(data: ReportData, path: str | Path) -> Path:
    """Write the report to `path` (its folder is made) and return it. The same data gives the same bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(data), encoding="utf-8")
    return path


def render(data: ReportData) -> str:
    """The whole document."""
    page = _Page(data)
    sections = [
        ("summary", "Summary", page.summary()),
        ("funnel", "Funnel", page.funnel()),
        ("candidates", "Candidates", page.candidates()),
        *([("random-search", "Random search", page.random_search())] if data.searches else []),
        ("hit-rate", "Hit rate", page.hit_rate()),
        ("accuracy", "Predicted and evaluated", page.accuracy()),
        ("calibration", "Uncertainty", page.calibration()),
        ("hulls", "Hulls", page.hulls()),
        ("crystals", "Stable new crystals", page.crystals()),
        *([("analyses", "Analyses", page.analyses())] if data.analyses else []),
        ("provenance", "Provenance", page.provenance()),
        ("timings", "Timings", page.timings()),
        ("config", "Configuration", page.config()),
    ]
    here = files("pipelines.report")
    frame, style, script = (here.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css", "page.js"))
    rounds = len([r for r in data.rounds if r > 0])
    rounds_done = f"{rounds} {'round' if rounds == 1 else 'rounds'}"
    return Template(frame).substitute(
        policy=CONTENT_POLICY,
        title=escape(data.title),
        lead=f"{rounds_done}; all energies on the scale <code>{escape(data.scale)}</code>",
        navigation=" ".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections),
        sections="\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>\n{body}\n</section>'
            for key, title, body in sections
        ),
        footer="One file, no network. Crystals on the hull lie at most 0.05 meV/atom above it.",
        figures=_json(page.figures),
        views=_json(page.views),
        style=style,
        plotly=get_plotlyjs(),
        script=script,
    )


class _Page:
    """The sections of one report; collects the figures and 3-D views that the page's script draws."""

    def __init__(self, data: ReportData):
        self.data = data
        self.rounds = summarize(data)
        self.stable = sorted(data.stable, key=lambda s: (s.e_above_hull, s.id))
        self.figures: dict[str, dict] = {}
        self.views: dict[str, dict] = {}

    def summary(self) -> str:
        by_round = ", ".join(
            f"{sum(s.round == r for s in self.stable)} in round {r}" for r in sorted({s.round for s in self.stable})
        )
        evaluated = int(sum(self.data.jobs["e_form"].is_valid().to_pylist()))
        generated = sum(s.n_out for s in self.data.stages if s.stage == "generate")
        cards = [
            ("new crystals on the hull", count(len(self.stable)), by_round),
            ("candidates generated", count(generated), "in all rounds"),
            ("candidates evaluated", count(evaluated), f"{count(len(self.data.jobs) - evaluated)} failed"),
        ]
        if self.rounds:
            first, last = self.rounds[0], self.rounds[-1]
            cards += [
                (f"hit rate, round {last.round}", _percent(last.model), f"random baseline {_percent(last.random)}"),
                ("gain over random", _gain(gain(*self.together())), "all rounds"),
                (f"MAE, round {last.round}", f"{milli(last.mae)} <small>meV/atom</small>", _change(first, last)),
            ]
        total = sum(s.seconds for s in self.data.stages)
        cards.append(("wall time of the stages", duration(total), f"{len(self.data.stages)} stages"))
        items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{note}</dd></div>" for name, value, note in cards)
        return f'<dl class="cards">{items}</dl>'

    def together(self) -> tuple[Share, Share]:
        """Hits of all rounds: the model's and the random baseline's."""
        return over_all(r.model for r in self.rounds), over_all(r.random for r in self.rounds)

    def funnel(self) -> str:
        header = ("Round", "Stage", "In", "Out", "Rejected", "Dead", "In = out + rejected + dead", "Reasons")
        rows = [
            [
                str(s.round),
                escape(s.stage),
                count(s.n_in),
                count(s.n_out),
                count(s.n_rejected),
                count(s.n_dead),
                "yes" if s.balanced else "<strong>no</strong>",
                _reasons(s),
            ]
            for s in self.data.stages
        ]
        return (
            "<p>Every row that enters a stage leaves it, is turned away by a named rule, or becomes a dead letter.</p>"
            + self._figure("funnel", plots.funnel(self.data), "Rows that left each stage, by round")
            + _table("Rows through each stage", header, rows, numeric={2, 3, 4, 5}, wide={7})
        )

    def candidates(self) -> str:
        if not self.data.generated:
            return "<p>Nothing has been generated yet.</p>"
        header = ("Round", "Generator", "Elements", "Recipes", "New", "Scored", "Charge-balanced")
        rows = [
            [
                str(g.round),
                escape(g.generator),
                str(g.n_elements),
                count(g.recipes),
                count(g.new),
                count(g.kept),
                f"{number(100 * g.balanced / g.kept, 1)} %" if g.kept else NOTHING,
            ]
            for g in self.data.generated
        ]
        kept, balanced = (sum(getattr(g, name) for g in self.data.generated) for name in ("kept", "balanced"))
        share = f" {number(100 * balanced / kept, 1)} % of the scored are." if kept else ""
        return (
            "<p>New: of a composition that no entry and no earlier proposal has, and that no rule turned away. "
            "Charge-balanced: the elements, at one common charge each, add up to zero, and no cation is more "
            f"electronegative than an anion.{share}</p>"
            + self._figure("generated", plots.generated(self.data), "Recipes of new compositions by generator")
            + _table("Candidates by generator and number of elements", header, rows, numeric={2, 3, 4, 5, 6}, tall=True)
            + self._searched_compositions()
        )

    def _searched_compositions(self) -> str:
        """Shares of the oxidation rule, and compositions that would not pack, where random structures were made."""
        if not self.data.compositions:
            return ""
        header = ("Round", "Elements", "Compositions", "Pass the oxidation rule")
        rows = [
            [
                str(c.round),
                str(c.n_elements),
                count(c.enumerated),
                f"{count(c.passed)} ({number(100 * c.passed / c.enumerated, 1)} %)" if c.enumerated else NOTHING,
            ]
            for c in self.data.compositions
        ]
        table = _table("Compositions taken for random structures", header, rows, numeric={1, 2, 3})
        if not self.data.unpacked:
            return table
        names = ", ".join(formula_html(formula) for _, formula in self.data.unpacked[:MAX_UNPACKED])
        more = len(self.data.unpacked) - MAX_UNPACKED
        rest = f" and {count(more)} more" if more > 0 else ""
        return f'{table}<p class="note">No random structure could be packed of {names}{rest}.</p>'

    def random_search(self) -> str:
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
                _part(sum(c.packed for c in s.compositions), sum(c.begun for c in s.compositions)),
                _part(sum(c.converged for c in s.compositions), sum(c.packed for c in s.compositions)),
                count(sum(c.converged >= s.least_converged for c in s.compositions)),
                _share(search_hits(s, by_random=False)),
                _share(search_hits(s, by_random=True)),
                NOTHING if s.labels is None else f"{count(s.labels)}, {count(s.labels_searched or 0)} by search alone",
            ]
            for s in self.data.searches
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
            for s in self.data.searches
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
        least = self.data.searches[-1].least_converged
        return (
            "<p>Compositions near the hull by the compositional ensemble, each searched with random structures. A hit: "
            "the lowest structure lies at or below the hull as it was before the round. A composition's lowest energy "
            f"is a label of the next ensemble where at least {least} of its structures converged.</p>"
            + self._figure(
                "search-volumes",
                plots.search_volumes(self.data),
                "Relaxations that converged, by the volume that the structure began with",
            )
            + _table("Random search, by round", header, rows, numeric={1, 2, 3, 4, 5, 6, 7, 8})
            + _table("Searched compositions", names, by_composition, numeric={1, 2, 3, 5, 6, 7}, tall=True)
        )

    def hit_rate(self) -> str:
        if not self.rounds:
            return "<p>Nothing has been evaluated yet.</p>"
        header = ("Round", "Hit rate, model", "Hit rate, random", "Gain", "Precision", "Failed evaluations")
        rows = [
            [str(r.round), _share(r.model), _share(r.random), _gain(r.gain), _share(r.precision), count(r.n_failed)]
            for r in self.rounds
        ]
        if len(rows) > 1:
            model, random = self.together()
            precision = over_all(r.precision for r in self.rounds)
            failed = count(sum(r.n_failed for r in self.rounds))
            rows.append(["all", _share(model), _share(random), _gain(gain(model, random)), _share(precision), failed])
        return (
            "<p>A hit lies at or below the hull as it was before the round; a failed evaluation is a miss. A "
            "composition that was searched is one candidate, by its lowest structure. Precision: hits among the "
            "evaluated crystals that the ensemble's median put at or below the hull. Bars: 95 % Wilson intervals.</p>"
            + self._figure("hit-rate", plots.hit_rates(self.rounds), "Hit rate and precision by round against random")
            + _table("Hits of evaluated crystals (95 % interval)", header, rows, numeric={1, 2, 3, 4, 5})
        )

    def accuracy(self) -> str:
        if not self.rounds:
            return "<p>Nothing has been evaluated yet.</p>"
        figures = self._figure(
            "parity", plots.parity(self.data, self.rounds), "Predicted against evaluated formation energies, by round"
        )
        if self.data.members:
            figures += self._figure(
                "members", plots.member_errors(self.data), "Validation error of each ensemble member after training"
            )
        if self.data.curves:
            figures += self._figure(
                "curves",
                plots.learning_curves(self.data),
                "Training of each ensemble member: loss (lines) and validation error (diamonds) by epoch",
            )
        header = ("Round", "MAE (meV/atom)", "Mean error (meV/atom)")
        rows = [[str(r.round), milli(r.mae, 1), milli(r.bias, 1)] for r in self.rounds]
        return f'<div class="pair">{figures}</div>' + _table(
            "Ensemble median minus evaluation", header, rows, numeric={1, 2}
        )

    def calibration(self) -> str:
        if not self.rounds:
            return "<p>Nothing has been evaluated yet.</p>"
        header = ("Round", "Errors inside the IQR (50 % expected)", "Rank correlation of |error| and IQR")
        rows = [
            [str(r.round), number(100 * r.inside_iqr) + " %", number(r.calibration.rank_correlation, 2)]
            for r in self.rounds
        ]
        covered = self._figure(
            "coverage",
            plots.coverage(self.rounds),
            "Coverage of the ensemble's intervals: below the dashed line it is too sure of itself",
        )
        spread = self._figure(
            "spread",
            plots.error_against_spread(self.data, self.rounds),
            "Absolute error against the ensemble's spread, one point an evaluated crystal",
        )
        return f'<div class="pair">{covered}{spread}</div>' + _table(
            "Does the spread tell the error?", header, rows, numeric={1, 2}
        )

    def hulls(self) -> str:
        found: dict[str, list[str]] = {}
        for crystal in self.stable:
            found.setdefault(crystal.chemsys, []).append(formula_html(crystal.formula))
        drawn = [c for c in found if c.count("-") in (1, 2)][:MAX_HULLS]
        drawn += [c for c in found if c.count("-") == 3][:MAX_QUATERNARY]
        binary = "".join(self._hull_figures(c, found[c]) for c in drawn if c.count("-") == 1)
        larger = "".join(
            f'<div class="hulls two">{self._hull_figures(c, found[c])}</div>' for c in drawn if c.count("-") > 1
        )
        notes = []
        if not found:
            notes.append("No new crystal reached the hull.")
        left_out = [f"{escape(c)} ({', '.join(found[c])})" for c in found if c not in drawn]
        if left_out:
            notes.append(f"Not drawn, deepest discoveries first: {'; '.join(left_out)}.")
        key = f'<p class="key">{HULL_KEY}</p>' if drawn else ""
        return f'{key}<div class="hulls">{binary}</div>{larger}' + "".join(f'<p class="note">{n}</p>' for n in notes)

    def _hull_figures(self, chemsys: str, found: list[str]) -> str:
        return "".join(
            self._figure(
                f"hull-{chemsys}-{i}" if when else f"hull-{chemsys}",
                figure,
                f"{escape(chemsys)}{f', {when}' if when else ''}: {', '.join(found)}",
                size="hull" if chemsys.count("-") < 3 else "hull solid",
            )
            for i, (when, figure) in enumerate(hull_diagrams(self.data, chemsys))
        )

    def crystals(self) -> str:
        if not self.stable:
            return "<p>No new crystal reached the hull.</p>"
        shown = self.stable[:MAX_CRYSTALS]
        header = (
            "Crystal",
            "Space group",
            "Formation energy (eV/atom)",
            "To the hull without it (meV/atom)",
            "Round",
            "Parent",
            "Id",
        )
        rows, attributes = [], []
        for i, stable in enumerate(shown):
            group, pearson = space_group(stable.crystal)
            formula = formula_html(stable.formula)
            parent = stable.chain[1] if len(stable.chain) > 1 else None
            rows.append(
                [
                    f'<button type="button" class="crystal" aria-controls="viewer">{formula}</button>',
                    f'<span class="unbroken">{escape(group)}</span> {escape(pearson)}',
                    number(stable.e_form, 3),
                    milli(stable.e_above_hull, 1),
                    str(stable.round),
                    formula_html(parent.formula) if parent else NOTHING,
                    _short_id(stable.id),
                ]
            )
            attributes.append(f'id="crystal-{escape(stable.id)}" data-view="{i}" aria-selected="false"')
            atoms = f"{stable.crystal.n_sites} atoms"
            self.views[str(i)] = {
                "figure": _plain(cell_view(stable.crystal)),
                "caption": f"{formula}, {escape(group)}, {atoms}, {stable.crystal.volume:.1f} Å³",
                "alt": f"Unit cell of {stable.formula}: {atoms}",
            }
        note = (
            "" if len(shown) == len(self.stable) else f" The {MAX_CRYSTALS} deepest of {len(self.stable):,} are listed."
        )
        table = _table(
            "Choose a row to see its cell", header, rows, numeric={2, 3, 4}, row_attributes=attributes, tall=True
        )
        return (
            f"<p>On the newest hull, and not in the snapshot.{note}</p>"
            f'<div class="split"><div id="crystals-table">{table}</div>'
            '<figure><div class="plot" id="viewer" role="img"></div>'
            '<figcaption id="viewer-caption" aria-live="polite"></figcaption></figure></div>'
        )

    def analyses(self) -> str:
        newest = max((s.round for s in self.data.stages if s.stage == "hull"), default=0)
        return "".join(self._analysis(stored, stale=stored.round < newest) for stored in self.data.analyses)

    def _analysis(self, stored: StoredAnalysis, stale: bool) -> str:
        analysis = stored.analysis
        made = f"Made of the hull of round {stored.round}"
        made += "; newer rounds are not in it. " if stale else ". "
        cards = "".join(
            f"<div><dt>{escape(label)}</dt><dd>{cell(value)}</dd></div>" for label, value in analysis.summary.items()
        )
        drawn = "".join(
            self._figure(f"analysis-{analysis.name}-{i}", figure, escape(caption))
            for i, (caption, figure) in enumerate(figures(analysis))
        )
        tables = "".join(
            _arrow_table(f"{escape(analysis.title)}: {escape(name)}", table) for name, table in analysis.tables.items()
        )
        return (
            f'<article id="analysis-{analysis.name}"><h3>{escape(analysis.title)}</h3>'
            f'<p class="note">{made}{" ".join(escape(note) for note in analysis.notes)}</p>'
            f'<dl class="cards small">{cards}</dl><div class="pair">{drawn}</div>{tables}</article>'
        )

    def provenance(self) -> str:
        if not self.stable:
            return "<p>No new crystal reached the hull.</p>"
        found = origins(self.stable)
        share = {name: f"{count(n)} ({number(100 * n / found.n)} %)" for name, n in found.through.items()}
        steps = [[escape(name), count(found.last.get(name, 0)), share[name]] for name in found.through]
        roots = [[formula_html(root.formula), _short_id(root.id), count(root.discoveries)] for root in found.roots]
        header = ("Generator", "Made the crystal", "Made it or an ancestor since the root")
        chains = "".join(_chain(stable) for stable in self.stable[:MAX_CRYSTALS])
        return (
            '<div class="pair">'
            + _table("Generators behind the new crystals on the hull", header, steps, numeric={1, 2})
            + _table("Roots", ("Root", "Id", "Discoveries"), roots[:MAX_ROOTS], numeric={2}, tall=True)
            + "</div><p>From each new crystal back to its root: a parent in the snapshot, or a composition.</p>"
            + chains
        )

    def timings(self) -> str:
        header = ("Round", "Stage", "Wall time", "Rows in", "Rows per second", "Bytes written", "Evaluations")
        rows = [
            [
                str(s.round),
                escape(s.stage),
                duration(s.seconds),
                count(s.n_in),
                number(s.n_in / s.seconds, 1) if s.seconds > 0 else NOTHING,
                count(s.bytes),
                count(s.evaluations) if s.evaluations else NOTHING,
            ]
            for s in self.data.stages
        ]
        return self._figure("timings", plots.timings(self.data), "Wall time of each stage, stacked by round") + (
            "<details><summary>Table</summary>"
            + _table("Wall time of the committed attempts", header, rows, numeric={2, 3, 4, 5, 6})
            + "</details>"
        )

    def config(self) -> str:
        text = json.dumps(dict(self.data.config), indent=2, ensure_ascii=False, default=str)
        rows = [[escape(name), escape(version)] for name, version in self.data.versions.items()]
        return (
            f"<details><summary>Round configuration</summary><pre><code>{escape(text)}</code></pre></details>"
            "<details><summary>Versions</summary>" + _table("Versions", ("Package", "Version"), rows) + "</details>"
        )

    def _figure(self, key: str, figure: go.Figure, caption: str, size: str = "") -> str:
        """A place for the figure; `caption` is HTML and, stripped of its subscripts, the alternative text."""
        self.figures[key] = _plain(figure)
        alt = caption.replace("<sub>", "").replace("</sub>", "").replace('"', "&quot;")
        return (
            f'<figure><div class="plot {size}" data-figure="{escape(key)}" role="img" aria-label="{alt}"></div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )


def _table(
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


def _arrow_table(caption: str, table: pa.Table) -> str:
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
    return f"<details><summary>{caption}{more}</summary>{_table(caption, header, rows, numeric, tall=True)}</details>"


def _chain(stable: StableCrystal) -> str:
    items = []
    for step in stable.chain:
        where = "snapshot" if step.round == 0 else f"round {step.round}"
        items.append(
            f'<li class="step">{formula_html(step.formula)} {_short_id(step.id)} <span class="how">{where}</span></li>'
        )
        if step.generator:
            items.append(f'<li class="how">← {_recipe(step)}</li>')
    return f'<ol class="chain" aria-label="Ancestors of {escape(stable.formula)}">{"".join(items)}</ol>'


def _recipe(step: ProvenanceStep) -> str:
    if step.cell:
        return f"{escape(step.generator)}: {escape(step.cell)}"
    sites = "" if step.n_replaced_sites is None else f" on {step.n_replaced_sites} sites"
    return f"{escape(step.generator)}: {mapping_text(step.mapping)}{sites} ←"


def _short_id(id_: str) -> str:
    """Digests are cut to 12 characters; the whole one is the tooltip."""
    short = id_ if len(id_) <= 16 else id_[:12] + "…"
    return f'<code title="{escape(id_)}">{escape(short)}</code>'


def _reasons(stage: StageCounts) -> str:
    named = [*sorted(stage.rejected.items()), *((f"dead: {reason}", n) for reason, n in sorted(stage.dead.items()))]
    return ", ".join(f"{escape(reason.replace('_', ' '))} {count(n)}" for reason, n in named if n) or NOTHING


def _percent(share: Share) -> str:
    return f"{100 * share.value:.1f} %" if share.n else NOTHING


def _share(share: Share) -> str:
    if not share.n:
        return NOTHING
    return f"{_percent(share)} ({100 * share.low:.0f}–{100 * share.high:.0f} %), {share.hits} of {share.n}"


def _part(n: int, whole: int) -> str:
    return f"{count(n)} ({number(100 * n / whole, 1)} %)" if whole else NOTHING


def _gain(ratio: float) -> str:
    if ratio == float("inf"):
        return "no random hit"
    return f"{number(ratio, 1)}×" if ratio == ratio else NOTHING


def _change(first: RoundSummary, last: RoundSummary) -> str:
    return "of the ensemble's median" if first is last else f"round {first.round}: {milli(first.mae)} meV/atom"


def _plain(figure: go.Figure) -> dict:
    """The figure as data and layout without plotly's template, which page.js replaces by the page's colours."""
    content = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return {"data": content["data"], "layout": content["layout"]}


def _json(value: object) -> str:
    """JSON that cannot end the script element it stands in, whatever the strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
