"""The new crystals on the hull: phase diagrams, cells, and how each came about."""

from __future__ import annotations

from html import escape

from gnome_core.crystals.symmetry import space_group
from pipelines.reading.discoveries import ProvenanceStep, StableCrystal
from pipelines.report import plots
from pipelines.report.hull_plots import hull_diagrams
from pipelines.report.labels import NOTHING, count, formula_html, mapping_text, milli, number
from pipelines.report.sections.elements import Page, html_table, plain_figure, short_id
from pipelines.report.structure_view import cell_view
from pipelines.report.summary import headline, origins

MAX_CRYSTALS = 200  # rows of the table, each with its 3-D view: about 5 kB a crystal
MAX_HULLS = 24
MAX_ROOTS = 100
MAX_QUATERNARY = 3  # two solid pictures each, and browsers keep few of those at once
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


def hulls(page: Page) -> str:
    """Phase diagrams of the systems in which something new is stable."""
    found: dict[str, list[str]] = {}
    for crystal in page.stable:
        found.setdefault(crystal.chemsys, []).append(formula_html(crystal.formula))
    drawn = [c for c in found if c.count("-") in (1, 2)][:MAX_HULLS]
    drawn += [c for c in found if c.count("-") == 3][:MAX_QUATERNARY]
    binary = "".join(_hull_figures(page, c, found[c]) for c in drawn if c.count("-") == 1)
    larger = "".join(
        f'<div class="hulls two">{_hull_figures(page, c, found[c])}</div>' for c in drawn if c.count("-") > 1
    )
    notes = []
    if not found:
        notes.append("No new crystal reached the hull.")
    left_out = [f"{escape(c)} ({', '.join(found[c])})" for c in found if c not in drawn]
    if left_out:
        notes.append(f"Not drawn, deepest discoveries first: {'; '.join(left_out)}.")
    key = f'<p class="key">{HULL_KEY}</p>' if drawn else ""
    return f'{key}<div class="hulls">{binary}</div>{larger}' + "".join(f'<p class="note">{n}</p>' for n in notes)


def _hull_figures(page: Page, chemsys: str, found: list[str]) -> str:
    return "".join(
        page.figure(
            f"hull-{chemsys}-{i}" if when else f"hull-{chemsys}",
            figure,
            f"{escape(chemsys)}{f', {when}' if when else ''}: {', '.join(found)}",
            size="hull" if chemsys.count("-") < 3 else "hull solid",
        )
        for i, (when, figure) in enumerate(hull_diagrams(page.data, chemsys))
    )


def crystals(page: Page) -> str:
    """A row and a 3-D view of each."""
    if not page.stable:
        return "<p>No new crystal reached the hull.</p>"
    shown = page.stable[:MAX_CRYSTALS]
    header = (
        "Crystal",
        "Novelty",
        "To the hull without it (meV/atom)",
        "To MP's hull (meV/atom)",
        "Chance to be stable (%)",
        "Confirmed",
        "Formation energy (eV/atom)",
        "Space group",
        "Round",
        "Parent",
        "Id",
    )
    rows, attributes = [], []
    for i, stable in enumerate(shown):
        found = space_group(stable.crystal)
        group, pearson = (str(found), found.pearson) if found else ("", "")
        formula = formula_html(stable.formula)
        parent = stable.chain[1] if len(stable.chain) > 1 else None
        rows.append(
            [
                f'<button type="button" class="crystal" aria-controls="viewer">{formula}</button>',
                _novelty(stable),
                milli(stable.e_above_hull, 1),
                _to_mp_hull(stable),
                NOTHING if stable.p_stable is None else number(100 * stable.p_stable, 0),
                _confirmed(stable),
                number(stable.e_form, 3),
                f'<span class="unbroken">{escape(group)}</span> {escape(pearson)}',
                str(stable.round),
                formula_html(parent.formula) if parent else NOTHING,
                short_id(stable.id),
            ]
        )
        attributes.append(f'id="crystal-{escape(stable.id)}" data-view="{i}" aria-selected="false"')
        atoms = f"{stable.crystal.n_sites} atoms"
        page.views[str(i)] = {
            "figure": plain_figure(cell_view(stable.crystal)),
            "caption": f"{formula}, {escape(group)}, {atoms}, {stable.crystal.volume:.1f} Å³",
            "alt": f"Unit cell of {stable.formula}: {atoms}",
        }
    note = "" if len(shown) == len(page.stable) else f" The {MAX_CRYSTALS} deepest of {len(page.stable):,} are listed."
    table = html_table(
        "Choose a row to see its cell", header, rows, numeric={2, 3, 4, 6, 8}, row_attributes=attributes, tall=True
    )
    return (
        f"<p>{headline(page.stable)}. On the newest hull, and not in the snapshot.{note} New: of a composition that "
        "neither the snapshot nor a list of known ones has; else who knows it. MP's hull: the Materials Project's as "
        "published, with the evaluator's mean absolute error. Chance: that a crystal which this evaluator puts so far "
        "from it truly is at or below it. Confirmed: by the second judges that were asked.</p>"
        f'<div class="split"><div id="crystals-table">{table}</div>'
        '<figure><div class="plot" id="viewer" role="img"></div>'
        '<figcaption id="viewer-caption" aria-live="polite"></figcaption></figure></div>'
    )


def _novelty(stable: StableCrystal) -> str:
    level, source = stable.novelty
    return f"{level} <small>{escape(source)}</small>" if source else level


def _to_mp_hull(stable: StableCrystal) -> str:
    if stable.e_above_mp_hull is None:
        return NOTHING
    error = stable.e_above_mp_hull_uncertainty
    return milli(stable.e_above_mp_hull) + ("" if error is None else f" ± {milli(error)}")


def _confirmed(stable: StableCrystal) -> str:
    if stable.confirmed_by is None:
        return NOTHING
    answer = {True: "yes", False: "no", None: "no answer"}[stable.confirmed]
    return f"{answer} <small>{escape(stable.confirmed_by)}</small>"


def provenance(page: Page) -> str:
    """From each back to its root, and which generators and roots they come from."""
    if not page.stable:
        return "<p>No new crystal reached the hull.</p>"
    found = origins(page.stable)
    share = {name: f"{count(n)} ({number(100 * n / found.n)} %)" for name, n in found.through.items()}
    steps = [[escape(name), count(found.last.get(name, 0)), share[name]] for name in found.through]
    roots = [[formula_html(root.formula), short_id(root.id), count(root.discoveries)] for root in found.roots]
    header = ("Generator", "Made the crystal", "Made it or an ancestor since the root")
    chains = "".join(_chain(stable) for stable in page.stable[:MAX_CRYSTALS])
    return (
        '<div class="pair">'
        + html_table("Generators behind the new crystals on the hull", header, steps, numeric={1, 2})
        + html_table("Roots", ("Root", "Id", "Discoveries"), roots[:MAX_ROOTS], numeric={2}, tall=True)
        + "</div><p>From each new crystal back to its root: a parent in the snapshot, or a composition.</p>"
        + chains
    )


def _chain(stable: StableCrystal) -> str:
    items = []
    for step in stable.chain:
        where = "snapshot" if step.round == 0 else f"round {step.round}"
        items.append(
            f'<li class="step">{formula_html(step.formula)} {short_id(step.id)} <span class="how">{where}</span></li>'
        )
        if step.generator:
            items.append(f'<li class="how">← {_recipe(step)}</li>')
    return f'<ol class="chain" aria-label="Ancestors of {escape(stable.formula)}">{"".join(items)}</ol>'


def _recipe(step: ProvenanceStep) -> str:
    if step.cell:
        return f"{escape(step.generator)}: {escape(step.cell)}"
    sites = "" if step.n_replaced_sites is None else f" on {step.n_replaced_sites} sites"
    return f"{escape(step.generator)}: {mapping_text(step.mapping)}{sites} ←"
