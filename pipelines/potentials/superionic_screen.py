"""Superionic conductors of a store: who is a candidate, their molecular dynamics, and one page of tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.diffusion import SUPERIONIC, arrhenius, mobile_ion
from gnome_core.crystals.arrow import CRYSTAL_FIELDS
from gnome_core.files import write_file
from gnome_core.potentials.md_config import MDConfig
from gnome_core.units import INSULATOR_GAP
from pipelines.errors import UserError
from pipelines.potentials.conductivity import MDTask, run_tasks
from pipelines.reading.entries import measured_entries, named
from pipelines.reading.gaps import with_gaps
from pipelines.store.store import Store

CLASSIFIED_AT = 1000.0  # K


def candidates(store: Store, gaps: Mapping[str, float] | None, only_new: bool = False) -> pa.Table:
    """Entries on the hull with one of the paper's mobile ions and a gap, sorted by id; column `ion` is added.

    gaps: eV by entry id or reduced formula, before those that were computed and those of the model (`with_gaps`), of
    which band_gap_by says which one each is. An entry of which nobody knows a gap is no candidate.
    """
    entries = measured_entries(store)
    entries = entries.filter(entries["on_hull"])
    if only_new:
        entries = entries.filter(pc.greater(entries["round"], 0))
    ions = [mobile_ion(chemsys.split("-")) for chemsys in entries["chemsys"].to_pylist()]
    entries = entries.append_column("ion", pa.array(ions, pa.string()))
    entries = with_gaps(entries.filter(entries["ion"].is_valid()), gaps)
    return entries.filter(pc.fill_null(pc.greater(entries["band_gap"], INSULATOR_GAP), False))


def choose(store: Store, gaps: Mapping[str, float] | None, only_new: bool, only: str | None, limit: int) -> Choice:
    """The first of the `candidates`, in order of their ids. only: formulas or ids, comma-separated. Raises UserError
    where there is none, or none of a name."""
    found = candidates(store, gaps, only_new)
    if only:
        found = named(found, only)
    if not len(found):
        raise UserError(f"{store.root}: no candidate; see `gnome potential screen --help`")
    return Choice(found.slice(0, limit), len(found))


class Choice(NamedTuple):
    """Candidates, and how many there were before a limit."""

    crystals: pa.Table
    found: int


def screen(
    chosen: pa.Table,
    out: str,
    potential: str,
    config: MDConfig,
    temperatures: Sequence[float],
    skip: float,
    seed: int,
    flags: Sequence[str],
) -> pa.Table:
    """Molecular dynamics of every candidate at every temperature; see `pipelines.potentials.conductivity`."""
    rows = chosen.select([field.name for field in CRYSTAL_FIELDS]).combine_chunks().to_batches()
    tasks = [
        MDTask(batch.slice(i, 1), ion, temperature, seed)
        for batch in rows
        for i, ion in enumerate(chosen["ion"].to_pylist())
        for temperature in temperatures
    ]
    return run_tasks(tasks, out, potential, config, skip, flags)


def verdict(row: Mapping) -> str:
    """What one run at CLASSIFIED_AT says."""
    if row["conductivity"] is None:
        return f"no answer: {row['stopped']}"
    if row["stopped"]:
        return f"uncertain: {row['stopped']}"
    if row["framework_msd"] > 10:  # Å^2: the other elements moved by a bond length or more
        return "melted"
    return "superionic" if row["conductivity"] > SUPERIONIC else "not superionic"


def write_page(results: pa.Table, formulas: Mapping[str, str], path: Path, note: str) -> None:
    """One self-contained HTML file: the table, mean square displacements, and Arrhenius plots."""
    import plotly.graph_objects as go
    from plotly.offline import get_plotlyjs

    rows = results.to_pylist()
    lines, msd, plot = [], go.Figure(), go.Figure()
    for row in rows:
        label = f"{formulas.get(row['id'], row['id'])} {row['temperature']:.0f} K"
        cells = [escape(formulas.get(row["id"], "")), escape(row["id"]), row["ion"], f"{row['temperature']:.0f}"]
        known = row["conductivity"] is not None
        cells += [f"{row['conductivity']:.3g}" if known else "-", f"{row['framework_msd']:.2f}" if known else "-"]
        cells.append(escape(verdict(row)) if row["temperature"] == CLASSIFIED_AT else escape(row["stopped"] or ""))
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        if known:
            msd.add_scatter(x=row["lags"], y=row["msd"], name=label, mode="lines")
    by_id: dict[str, list[dict]] = {}
    for row in rows:
        if row["conductivity"]:
            by_id.setdefault(row["id"], []).append(row)
    for id_, runs in by_id.items():
        kelvin, sigma = [r["temperature"] for r in runs], [r["conductivity"] for r in runs]
        name = formulas.get(id_, id_)
        plot.add_scatter(x=[1000 / t for t in kelvin], y=sigma, name=name, mode="markers")
        if len(set(kelvin)) > 1:
            fit = arrhenius(kelvin, sigma)
            ends = [min(kelvin), max(kelvin)]
            title = f"{name}: {fit.activation:.2f} eV"
            plot.add_scatter(
                x=[1000 / t for t in ends], y=[fit.conductivity(t) for t in ends], name=title, mode="lines"
            )
    plot.add_hline(y=SUPERIONIC, line_dash="dot", annotation_text="superionic at 1,000 K")
    msd.update_layout(xaxis_title="lag, ps", yaxis_title="mean square displacement, Å²", template="plotly_white")
    plot.update_layout(xaxis_title="1000 / T, 1/K", yaxis_title="conductivity, mS/cm", template="plotly_white")
    plot.update_yaxes(type="log")
    path.parent.mkdir(parents=True, exist_ok=True)
    page = _PAGE.substitute(
        plotly=get_plotlyjs(),
        note=escape(note),
        rows="\n".join(lines),
        msd=msd.to_html(full_html=False, include_plotlyjs=False),
        arrhenius=plot.to_html(full_html=False, include_plotlyjs=False),
    )
    write_file(path, page.encode())


_PAGE = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Superionic conductors</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ccc;text-align:left}</style>
<script>$plotly</script></head><body>
<h1>Superionic conductors</h1><p>$note</p>
<table><thead><tr><th>formula</th><th>id</th><th>ion</th><th>K</th><th>conductivity, mS/cm</th>
<th>framework, Å²</th><th>at 1,000 K</th></tr></thead><tbody>
$rows
</tbody></table>
<h2>Mean square displacements</h2>$msd
<h2>Arrhenius plot</h2>$arrhenius
</body></html>
""")
