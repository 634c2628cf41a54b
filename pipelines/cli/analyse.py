"""`gnome analyse STORE ...`: a command an analysis, all of them without one. `gnome fit-superionic` serves one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.hints import say_next
from pipelines.cli.options import HoldoutOption, StoreArg, TableFormat

app = typer.Typer(
    help="Analyse a store. Without a command: everything that needs the store alone. Outcomes go into the report.",
    subcommand_metavar="[COMMAND]",
)

ExportOption = Annotated[Path | None, typer.Option("--export", help="Folder for tables and pictures.")]
FormatOption = Annotated[TableFormat, typer.Option("--format", help="Of the exported tables.")]
AllOption = Annotated[bool, typer.Option("--all", help="The snapshot's stable crystals too.")]


@app.callback(invoke_without_command=True)
def choose(context: typer.Context, store: StoreArg) -> None:
    context.obj = store
    if context.invoked_subcommand is None:
        everything(context)


@app.command("all")
def everything(context: typer.Context, export: ExportOption = None, format: FormatOption = "csv") -> None:
    """Everything that needs the store alone (what happens without a command too)."""
    from pipelines.analyses import FROM_STORE

    _run(context, list(FROM_STORE), export, format)


@app.command()
def credibility(
    context: typer.Context,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            help="A check to leave out, once each: composition, sane, charges, elements, disorder, family, mp_hull.",
        ),
    ] = None,
    export: ExportOption = None,
    format: FormatOption = "csv",
) -> None:
    """Which new crystals on the hull pass a chemist's checks, one after the other; the report opens with it."""
    _run(context, ["credibility"], export, format, without=tuple(without or ()))


@app.command()
def discovery(context: typer.Context, export: ExportOption = None, format: FormatOption = "csv") -> None:
    """Precision, recall, F1, acceleration and hit rates by round and number of elements."""
    _run(context, ["discovery"], export, format)


@app.command()
def growth(context: typer.Context, export: ExportOption = None, format: FormatOption = "csv") -> None:
    """Stable crystals by round and number of elements, against the snapshot's hull and on the newest."""
    _run(context, ["growth"], export, format)


@app.command()
def displaced(context: typer.Context, export: ExportOption = None, format: FormatOption = "csv") -> None:
    """Snapshot entries that new crystals pushed off the hull."""
    _run(context, ["displaced"], export, format)


@app.command("phase-separation")
def phase_separation(context: typer.Context, export: ExportOption = None, format: FormatOption = "csv") -> None:
    """How deep new crystals lie below their competitors, beside the snapshot's stable ones, by number of elements."""
    _run(context, ["phase-separation"], export, format)


@app.command()
def prototypes(
    context: typer.Context,
    poscars: Annotated[
        Path | None,
        typer.Option(help="Folder for POSCAR files to compare with XtalFinder; the command is printed."),
    ] = None,
    export: ExportOption = None,
    format: FormatOption = "csv",
) -> None:
    """Prototypes that the snapshot does not hold (a lower bound)."""
    from pipelines.cli.outputs import check_output

    check_output(poscars, folder=True)
    inputs = _run(context, ["prototypes"], export, format)
    if poscars is not None:
        from pipelines.report.exports import export_poscars

        typer.echo(export_poscars(inputs, poscars))


@app.command()
def layered(
    context: typer.Context, all: AllOption = False, export: ExportOption = None, format: FormatOption = "csv"
) -> None:
    """Layered crystals by Cheon's algorithm, 0.45 Å."""
    _run(context, ["layered"], export, format, all_stable=all)


@app.command("li-conductors")
def li_conductors(
    context: typer.Context,
    gaps: Annotated[
        Path | None,
        typer.Option(help="Table of band gaps: id or formula, band_gap in eV; else computed ones, else a model's."),
    ] = None,
    classifier: Annotated[Path | None, typer.Option(help="Model file of `gnome fit-superionic`.")] = None,
    all: AllOption = False,
    export: ExportOption = None,
    format: FormatOption = "csv",
) -> None:
    """Lithium-ion conductors: gap, no transition metals, window against lithium and at a cathode, conductivity."""
    _run(context, ["li-conductors"], export, format, gaps=gaps, classifier=classifier, all_stable=all)


@app.command("li-mn-oxides")
def li_mn_oxides(context: typer.Context, export: ExportOption = None, format: FormatOption = "csv") -> None:
    """Oxides of lithium, manganese and another transition metal."""
    _run(context, ["li-mn-oxides"], export, format)


@app.command()
def scaling(context: typer.Context, export: ExportOption = None, format: FormatOption = "csv") -> None:
    """Validation error against training-set size, with a power law."""
    _run(context, ["scaling"], export, format)


@app.command()
def experimental(
    context: typer.Context,
    cifs: Annotated[Path, typer.Option(help="Folder of CIF files.")],
    since: Annotated[
        int | None, typer.Option(min=1800, max=2200, help="Year from which on files count as new, by their dates.")
    ] = None,
    all: AllOption = False,
    export: ExportOption = None,
    format: FormatOption = "csv",
) -> None:
    """Stable crystals that a folder of experimental CIF files holds too."""
    _run(context, ["experimental"], export, format, cifs=cifs, since=since, all_stable=all)


@app.command()
def r2scan(
    context: typer.Context,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Table of r2SCAN entries: id, numbers, e_form_per_atom, scale; else what `gnome confirm --by "
            "chgnet-r2scan` computed."
        ),
    ] = None,
    all: AllOption = False,
    export: ExportOption = None,
    format: FormatOption = "csv",
) -> None:
    """The share of stable crystals that r2SCAN finds stable too."""
    _run(context, ["r2scan"], export, format, results=results, all_stable=all)


@app.command()
def novelty(
    context: typer.Context,
    against: Annotated[str, typer.Option(help="Another store, or a table of crystals.")],
    all: AllOption = False,
    export: ExportOption = None,
    format: FormatOption = "csv",
) -> None:
    """Which stable crystals another collection does not hold."""
    _run(context, ["novelty"], export, format, against=against, all_stable=all)


@app.command()
def additions(
    context: typer.Context,
    against: Annotated[str, typer.Option(help="A table of later crystals, or another store's stable ones.")],
    export: ExportOption = None,
    format: FormatOption = "csv",
) -> None:
    """Which compositions another collection has beyond the snapshot, and which of them the rounds found."""
    _run(context, ["additions"], export, format, against=against)


def fit_superionic(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Measured conductivities, Parquet or CSV (OBELiX).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file.")] = Path("superionic.json"),
    holdout: HoldoutOption = "none",
) -> None:
    """Fit the classifier that `gnome analyse STORE li-conductors --classifier` uses."""
    from pipelines.analyses import fit_classifier
    from pipelines.cli.outputs import check_output, writing

    check_output(output)
    with writing(output):
        lines = fit_classifier(table, output, holdout)
    for line in lines:
        typer.echo(line)
    say_next(("analyse", "STORE", "li-conductors", "--classifier", output))


def _run(context: typer.Context, names: list[str], export: Path | None, format: TableFormat, **options):
    """Run the analyses, print and export what they say, and write the report anew."""
    from rich.progress import track

    from pipelines.analyses import Inputs, Options, run_analysis
    from pipelines.cli.outputs import check_output, writing
    from pipelines.cli.terminal import Terminal
    from pipelines.report.collect import collect_page
    from pipelines.report.exports import export_analysis
    from pipelines.report.page import write_store_report
    from pipelines.store.store import Store

    check_output(export, folder=True)
    console, errors = Terminal(soft_wrap=True), Terminal(stderr=True)
    inputs = Inputs(Store.open(context.obj))
    for name in names:
        analysis = run_analysis(
            inputs,
            name,
            Options(**options),
            lambda items, what: track(items, what, console=errors, transient=True, disable=not errors.is_terminal),
        )
        console.print(analysis.title, style="bold")
        for label, value in analysis.summary.items():
            console.print(f"  {label:45} {_text(value)}")
        if export:
            with writing(export):
                for path in export_analysis(analysis, export, format):
                    console.print(f"  {path}")
    console.print(write_store_report(inputs.store, collect_page(inputs.store)))
    return inputs


def _text(value: object) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
