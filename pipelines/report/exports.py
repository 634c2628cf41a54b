"""Analyses written out: tables, pictures, structures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gnome_core.analysis.result import Analysis
from gnome_core.crystals.writers import write_parquet
from gnome_core.files import write_file
from gnome_core.spreadsheets import write_csv
from pipelines.analyses import Inputs
from pipelines.reading.entries import new_on_hull

TABLE_WRITERS = {"csv": write_csv, "parquet": write_parquet}


def export_analysis(analysis: Analysis, folder: Path, format: Literal["csv", "parquet"]) -> list[Path]:
    """Write every table as FOLDER/NAME-TABLE.FORMAT and the pictures as FOLDER/NAME.html; the paths."""
    from pipelines.report.analysis_plots import figures
    from pipelines.report.page import render_frame
    from pipelines.report.quantities import shown, title
    from pipelines.report.sections.elements import Figure, plain_figure
    from pipelines.report.templates import render_template

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table, rows in analysis.tables.items():
        paths.append(folder / f"{analysis.name}-{table}.{format}")
        TABLE_WRITERS[format](rows, paths[-1])
    pictures = figures(analysis)
    if pictures:
        places = [Figure(str(i), caption) for i, (caption, _) in enumerate(pictures)]
        body = render_template(
            "analysis.html", cards=[(title(k), shown(k, v)) for k, v in analysis.summary.items()], figures=places
        )
        drawn = {place.key: plain_figure(figure) for place, (_, figure) in zip(places, pictures, strict=True)}
        page = render_frame(analysis.title, analysis.notes, [(analysis.name, "Figures", body)], {"figures": drawn})
        paths.append(folder / f"{analysis.name}.html")
        write_file(paths[-1], page.encode())
    return paths


def export_poscars(inputs: Inputs, folder: Path) -> str:
    """Write the new stable crystals as POSCAR files; the command that compares them with XtalFinder."""
    from gnome_core.analysis.prototypes import xtalfinder_command
    from gnome_core.crystals.arrow import crystals_from_batch
    from gnome_core.crystals.convert import to_structure

    folder.mkdir(parents=True, exist_ok=True)
    new = new_on_hull(inputs.entries)
    for id_, crystal in zip(new["id"].to_pylist(), crystals_from_batch(new), strict=True):
        to_structure(crystal).get_sorted_structure().to(filename=str(folder / f"POSCAR.{id_}"), fmt="poscar")
    return xtalfinder_command(str(folder))
