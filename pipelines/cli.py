"""The command line. Imports are inside the commands, so that `gnome --help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional

import typer

from pipelines import potential_cli

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The GNoME flywheel."
)
rounds = typer.Typer(no_args_is_help=True, help="Run the rounds of a store.")
app.add_typer(rounds, name="round")
app.add_typer(potential_cli.app, name="potential")

StoreArg = Annotated[str, typer.Argument(metavar="STORE", help="Folder of the store.")]
ConfigOption = Annotated[Optional[Path], typer.Option("--config", help="round.toml; `gnome config` prints one.")]  # noqa: UP045
EvaluatorOption = Annotated[Optional[str], typer.Option("--evaluator", help="Overrides evaluation.evaluator.")]  # noqa: UP045
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show what Beam, jax and XLA report.")]
BeamOptions = Annotated[Optional[list[str]], typer.Argument(metavar="[-- BEAM OPTIONS]", help="As Beam has them.")]  # noqa: UP045


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"gnome: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _is_expected(error: Exception) -> bool:
    from pipelines.errors import StoreError, UserError

    if isinstance(error, UserError | StoreError):
        return True
    # Only a command that read a snapshot has loaded this module.
    entries = sys.modules.get("gnome_core.crystals.entries")
    return entries is not None and isinstance(error, entries.SourceError)


@app.command()
def init(
    store: StoreArg,
    snapshot: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="embedded | FILE.parquet | DIR_OF_CIF | gnome-csv:FILE | mp-api | optimade:URL"),
    ] = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Make a store: read a snapshot of known crystals, build its hull, train the first ensemble."""
    from pipelines import round as driver
    from pipelines.runners import runner_flags

    runner_flags(beam_options or [])  # complain before anything is made
    flags = _prepare(verbose, beam_options)
    made = driver.init_store(store, _config(config, snapshot=snapshot))
    _follow(driver.run_stages(made, 0, driver.stages_of(0), flags))


@rounds.command()
def run(
    store: StoreArg,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to run; a round that was interrupted counts.")] = 1,
    config: ConfigOption = None,
    evaluator: EvaluatorOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Run whole rounds, then show the status and write the report."""
    from pipelines import round as driver
    from pipelines.store import Store

    flags = _prepare(verbose, beam_options)
    opened = Store.open(store)
    for _ in range(rounds):
        round_ = driver.open_round(opened)
        if round_ is None:
            round_ = driver.start_round(opened, _next_config(opened, config, evaluator))
        _follow(driver.run_stages(opened, round_, driver.stages_of(round_), flags))
    status(store)
    report(store)


@rounds.command()
def propose(
    store: StoreArg,
    config: ConfigOption = None,
    evaluator: EvaluatorOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Generate, score, select and emit jobs; evaluate them when you like, then `gnome round learn`."""
    from pipelines import round as driver
    from pipelines.store import Store

    flags = _prepare(verbose, beam_options)
    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if round_ is None:
        round_ = driver.start_round(opened, _next_config(opened, config, evaluator))
    _follow(driver.run_stages(opened, round_, driver.PROPOSE, flags))


@rounds.command()
def learn(store: StoreArg, verbose: VerboseOption = False, beam_options: BeamOptions = None) -> None:
    """Evaluate what was proposed, ingest the results, update the hull, retrain, report."""
    from pipelines import round as driver
    from pipelines.errors import UserError
    from pipelines.store import Store

    flags = _prepare(verbose, beam_options)
    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if not round_ or opened.commit(round_, "emit") is None:
        raise UserError(f"nothing is proposed in {store}; `gnome round propose {store}` comes first")
    _follow(driver.run_stages(opened, round_, driver.LEARN, flags))
    status(store)
    report(store)


@rounds.command()
def resume(store: StoreArg, verbose: VerboseOption = False, beam_options: BeamOptions = None) -> None:
    """Finish the round that was interrupted; committed stages are kept as they are."""
    from pipelines import round as driver
    from pipelines.store import Store

    flags = _prepare(verbose, beam_options)
    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if round_ is None:
        typer.echo(f"nothing to resume: round {opened.rounds()[-1]} is finished")
        return
    _follow(driver.run_stages(opened, round_, driver.stages_of(round_), flags))


@rounds.command()
def plan(store: StoreArg) -> None:
    """Show which stages the next `run` will run and what they read."""
    from pipelines import round as driver
    from pipelines.store import Store, stage_key

    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if round_ is None:
        round_ = opened.rounds()[-1] + 1
    for stage in driver.stages_of(round_):
        state = "committed" if opened.commit(round_, stage) else "to run"
        reads = ", ".join(stage_key(*key) for key in driver.inputs_of(round_, stage)) or "the snapshot"
        typer.echo(f"{stage_key(round_, stage):16} {state:10} reads {reads}")


@rounds.command()
def status(store: StoreArg) -> None:
    """Show every stage's counts, and each round's hit rates and errors."""
    from pipelines.status import print_status
    from pipelines.store import Store

    print_status(Store.open(store))


@app.command()
def report(
    store: StoreArg,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="HTML file; STORE/report.html.")] = None,  # noqa: UP045
) -> None:
    """Write one self-contained HTML file about all rounds and print its path."""
    from pipelines.report.collect import collect
    from pipelines.report.html import write_report
    from pipelines.store import Store

    typer.echo(write_report(collect(Store.open(store)), output or Path(store) / "report.html"))


@app.command()
def show(
    store: StoreArg, id: Annotated[str, typer.Argument(metavar="ID", help="Entry or job id; its start is enough.")]
):
    """Show an entry: energies, decomposition, and how it was made."""
    from pipelines.entries import print_entry
    from pipelines.store import Store

    print_entry(Store.open(store), id)


@app.command()
def export(
    store: StoreArg,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="File, or folder for cif; STORE/export.FORMAT."),
    ] = None,
    stable: Annotated[bool, typer.Option("--stable", help="Only new crystals on the hull.")] = False,
    format: Annotated[str, typer.Option(help="csv | cif | parquet")] = "csv",
) -> None:
    """Write entries (structures, energies, distance to the hull) for other programs."""
    from pipelines.entries import export_entries
    from pipelines.store import Store

    output = output or Path(store) / f"export.{format}"
    n = export_entries(Store.open(store), output, stable_only=stable, format=format)
    typer.echo(f"{n} entries written to {output}")


@app.command()
def config() -> None:
    """Print a round.toml with every setting, its default and what it means."""
    from pipelines.config import RoundConfig, config_toml

    typer.echo(config_toml(RoundConfig()), nl=False)


def _config(path: Path | None, base=None, snapshot: str | None = None, evaluator: str | None = None):
    from pipelines.config import RoundConfig, load_config, parse_config

    settings = load_config(str(path)) if path else base or RoundConfig()
    if snapshot:
        settings = settings.model_copy(update={"snapshot": snapshot})
    if evaluator:
        document = settings.document()
        document["evaluation"]["evaluator"] = evaluator
        settings = parse_config(document, "--evaluator")
    return settings


def _next_config(store, path: Path | None, evaluator: str | None):
    from pipelines.round import load_round_config

    return _config(path, base=load_round_config(store, store.rounds()[-1]), evaluator=evaluator)


def _prepare(verbose: bool, beam_options: list[str] | None) -> list[str]:
    """Set this process up and give the Beam options; before anything loads Beam or jax."""
    from pipelines.environment import restart_with_large_pages, set_up
    from pipelines.runners import VERBOSE_FLAG

    restart_with_large_pages()
    set_up(verbose)
    return [*([VERBOSE_FLAG] if verbose else []), *(beam_options or [])]


def _follow(events: Iterable) -> None:
    """Show the stages as they run: how far the running one is, and one line for each that ended."""
    from rich.console import Console

    from pipelines.progress import shown
    from pipelines.round import Started
    from pipelines.status import stage_line
    from pipelines.store import stage_key

    console = Console(stderr=True)
    with shown(console) as begin:
        for event in events:
            if isinstance(event, Started):
                begin(stage_key(event.round, event.stage))
            else:
                console.print(stage_line(event.commit, event.reused), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
