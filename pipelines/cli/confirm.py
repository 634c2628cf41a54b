"""`gnome confirm`: a second opinion of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.hints import say_next
from pipelines.cli.options import BeamOptions, ConfigOption, OnlyOption, RunnerOption, StoreArg, VerboseOption

WINDOW = 0.05  # eV/atom


def confirm(
    store: StoreArg,
    by: Annotated[
        str,
        typer.Option(
            "--by", help="The judge: nequix-oam-1, potential:FILE, ase:..., any evaluator but the store's own."
        ),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, help="The first so many, in the certificate's order; else all.")
    ] = None,
    within: Annotated[
        float, typer.Option(min=0, help="eV/atom: new crystals this near the hull too, not only those on it.")
    ] = 0.0,
    only: OnlyOption = None,
    window: Annotated[
        float, typer.Option(min=0, help="eV/atom above the hull up to which phases of a system compete.")
    ] = WINDOW,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run and what it costs.")] = False,
    emit_only: Annotated[
        bool,
        typer.Option("--emit-only", help="espresso, vasp: emit the jobs, to be run elsewhere, and take what is there."),
    ] = False,
    export: Annotated[Path | None, typer.Option("--export", help="Folder for the tables, as CSV.")] = None,
    config: ConfigOption = None,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Evaluate discoveries and their competing phases by another judge, and measure them on its own hull.

    Interrupted, it goes on when called again. First-principles jobs are run here, or emitted and taken in later.
    """
    from pipelines.beam.environment import prepare
    from pipelines.beam.runners import VERBOSE_FLAG, expand_runner, runner_flags
    from pipelines.cli.outputs import check_output, writing
    from pipelines.errors import UserError

    prepare(verbose)
    from pipelines.cli.confirm_text import second_opinion
    from pipelines.report.collect import collect_page
    from pipelines.report.exports import export_analysis
    from pipelines.report.page import write_store_report
    from pipelines.rounds.config import ConfirmConfig, load_config, load_round_config
    from pipelines.store.store import Store

    if only is not None and (top is not None or within):
        raise UserError("--only says which crystals; --top and --within do not go with it")
    check_output(export, folder=True)
    flags = runner_flags(expand_runner(runner, [*([VERBOSE_FLAG] if verbose else []), *(beam_options or [])]))
    opened = Store.open(store)
    settings = load_config(str(config)) if config else load_round_config(opened, opened.rounds()[-1])
    wanted = ConfirmConfig(by=by, top=top, within=within, window=window)
    settings = settings.model_copy(update={"confirm": wanted})
    analysis = second_opinion(opened, settings, flags, only, dry_run, not emit_only)
    if analysis is None:
        return
    if export:
        with writing(export):
            for path in export_analysis(analysis, export, "csv"):
                typer.echo(path)
    typer.echo(write_store_report(opened, collect_page(opened)))
    say_next(("analyse", store, "credibility"))
