"""`gnome report`, `gnome serve`, `gnome top`, `gnome show` and `gnome export`: what has come of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.hints import say_next
from pipelines.cli.options import ExportFormat, JsonOption, StoreArg

if TYPE_CHECKING:
    from pipelines.report.data import ReportData


def report(
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="Folders, or gs://BUCKET/PATH.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file; STORE/report.html, of several compare.html.")
    ] = None,
) -> None:
    """Write one self-contained HTML file about all rounds and print its path; of several stores, one that compares."""
    if len(stores) == 1:
        report_store(stores[0], output)
    else:
        _compare(stores, output or Path("compare.html"))


def report_store(store: str, output: Path | None = None) -> None:
    """Write a store's report, where nobody says where into the store, and print its path."""
    from pipelines.cli.outputs import check_output, writing
    from pipelines.report.collect import collect_page
    from pipelines.report.page import write_report, write_store_report
    from pipelines.store.store import Store

    opened = Store.open(store)
    check_output(output or (None if opened.in_bucket else opened.output_path("report.html")))
    data = _told(collect_page(opened))
    with writing(output or Path(store, "report.html")):
        typer.echo(write_report(data, output) if output else write_store_report(opened, data))


def _compare(stores: list[str], output: Path) -> None:
    from pipelines.cli.outputs import check_output, writing
    from pipelines.report.collect import collect
    from pipelines.report.compare import named_apart, write_comparison
    from pipelines.store.store import Store

    opened = [Store.open(store) for store in stores]
    check_output(output)
    data = named_apart([_told(collect(store)) for store in opened], stores)
    with writing(output):
        typer.echo(write_comparison(data, output))


def _told(data: ReportData) -> ReportData:
    """The data; what is damaged of the store's analyses is said."""
    from pipelines.cli.terminal import printable

    for what in data.left_out:
        typer.echo(printable(f"gnome: {what}"), err=True)
    return data


def serve(
    store: StoreArg,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8327,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than this machine's own, a token is asked for.")
    ] = "127.0.0.1",
) -> None:
    """Show the report in a browser while the store grows; nothing is written. Ctrl-C ends it."""
    from pipelines.cli.server import serve_report
    from pipelines.store.store import Store

    serve_report(Store.open(store), host, port)


def top(
    store: StoreArg,
    n: Annotated[int | None, typer.Option("-n", min=1, help="The first so many; else 20, and all as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the discoveries, those that lower the hull most first: energies, space group, how new they are."""
    from pipelines.store.store import Store

    if as_json:
        from pipelines.cli.documents import top_document
        from pipelines.cli.json_text import print_json

        print_json(top_document(Store.open(store), n))
        return
    from pipelines.cli.top_text import print_top

    found = print_top(Store.open(store), n)
    say_next(("show", store, "ID") if found else ("round", "run", store))


def show(
    store: StoreArg,
    id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Id of an entry or job, or its start, or a formula. None: origins of all."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an entry: energies, decomposition, how it was made. Without an id: the origins of all discoveries."""
    from pipelines.store.store import Store

    if as_json:
        from pipelines.cli.documents import entry_document, origins_document
        from pipelines.cli.json_text import print_json

        opened = Store.open(store)
        print_json(origins_document(opened) if id is None else entry_document(opened, id))
        return
    from pipelines.cli.show_text import print_entry, print_origins

    if id is None:
        print_origins(Store.open(store))
    else:
        print_entry(Store.open(store), id)


def export(
    store: StoreArg,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File, or folder for cif and poscar; in STORE."),
    ] = None,
    stable: Annotated[bool, typer.Option("--stable", help="Only new crystals on the hull.")] = False,
    format: Annotated[ExportFormat, typer.Option(help="cif and poscar: a file a crystal.")] = "csv",
) -> None:
    """Write entries (structures, energies, distance to the hull) for other programs."""
    from pipelines.cli.export_files import FORMATS, export_entries
    from pipelines.store.store import Store

    opened = Store.open(store)
    output = output or opened.output_path(FORMATS[format].name)
    n = export_entries(opened, output, stable_only=stable, format=format)
    typer.echo(f"{n} entries written to {output}")
