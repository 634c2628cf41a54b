"""The command line. Imports are inside the commands, so that `gnome --help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional

import typer

from gnome_core.errors import GnomeError
from pipelines.cli import models as cli_models
from pipelines.cli import potential as cli_potential
from pipelines.cli import store as cli_store
from pipelines.cli.analyse import analyse
from pipelines.cli.dft import app as dft
from pipelines.cli.runners import app as runners

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The GNoME flywheel."
)
rounds = typer.Typer(no_args_is_help=True, help="Run the rounds of a store.")
app.add_typer(rounds, name="round")
app.add_typer(analyse, name="analyse")
app.add_typer(dft, name="dft")
app.add_typer(cli_potential.app, name="potential")
app.add_typer(runners, name="runners")

StoreArg = Annotated[str, typer.Argument(metavar="STORE", help="Folder of the store, or gs://BUCKET/PATH.")]
ConfigOption = Annotated[Optional[Path], typer.Option("--config", help="round.toml; `gnome config` prints one.")]  # noqa: UP045
EvaluatorOption = Annotated[Optional[str], typer.Option("--evaluator", help="Overrides evaluation.evaluator.")]  # noqa: UP045
RunnerOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--runner", help="local | multi | prism | flink | spark | dataflow; `gnome runners` says what is here."
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show what Beam, jax and XLA report.")]
BeamOptions = Annotated[Optional[list[str]], typer.Argument(metavar="[-- BEAM OPTIONS]", help="As Beam has them.")]  # noqa: UP045


@app.callback()
def options(
    log_json: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--log-json", envvar="GNOME_LOG_JSON", help="File to append a JSON line to for all that is logged."
        ),
    ] = None,
) -> None:
    """The GNoME flywheel."""
    if log_json:
        os.environ["GNOME_LOG_JSON"] = str(log_json.absolute())  # worker processes inherit it


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except GnomeError as error:
        print(f"gnome: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command()
def init(
    store: StoreArg,
    snapshot: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="embedded | FILE.parquet | DIR_OF_CIF | gnome-csv:FILE | mp-api | optimade:URL"),
    ] = None,
    config: ConfigOption = None,
    evaluator: EvaluatorOption = None,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Evaluate only the snapshot's stable entries and the elements, for one scale."
        ),
    ] = False,
    emit_only: Annotated[
        bool, typer.Option("--emit-only", help="espresso, vasp: emit the snapshot's jobs, to be run elsewhere.")
    ] = False,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Make a store: read a snapshot of known crystals, build its hull, train the first ensemble."""
    from pipelines.beam.runners import runner_flags
    from pipelines.errors import JobsPending
    from pipelines.rounds import driver
    from pipelines.rounds.plan import stages_of

    flags = _prepare(verbose, beam_options, runner)
    runner_flags(flags)  # complain before anything is made
    made = driver.init_store(store, _config(config, snapshot=snapshot, evaluator=evaluator, recompute=recompute))
    try:
        _follow(driver.run_stages(made, 0, stages_of(0), flags, run_jobs=not emit_only))
    except JobsPending as pending:
        if not emit_only:
            raise
        typer.echo(str(pending))


@rounds.command()
def run(
    store: StoreArg,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to run; a round that was interrupted counts.")] = 1,
    config: ConfigOption = None,
    evaluator: EvaluatorOption = None,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Run whole rounds, then show the status and write the report."""
    from pipelines.rounds import driver
    from pipelines.rounds.plan import stages_of
    from pipelines.store.store import Store

    flags = _prepare(verbose, beam_options, runner)
    opened = Store.open(store)
    for _ in range(rounds):
        round_ = driver.open_round(opened)
        if round_ is None:
            round_ = driver.start_round(opened, _next_config(opened, config, evaluator))
        _follow(driver.run_stages(opened, round_, stages_of(round_), flags))
    status(store)
    report(store)


@rounds.command()
def propose(
    store: StoreArg,
    config: ConfigOption = None,
    evaluator: EvaluatorOption = None,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Generate, score, select and emit jobs; evaluate them when you like, then `gnome round learn`."""
    from pipelines.rounds import driver
    from pipelines.rounds.plan import PROPOSE
    from pipelines.store.store import Store

    flags = _prepare(verbose, beam_options, runner)
    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if round_ is None:
        round_ = driver.start_round(opened, _next_config(opened, config, evaluator))
    _follow(driver.run_stages(opened, round_, PROPOSE, flags))


@rounds.command()
def learn(
    store: StoreArg,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Evaluate what was proposed, ingest the results, update the hull, retrain, report.

    Of first-principles jobs it takes the results that are there; later ones come in with the next round.
    """
    from pipelines.errors import UserError
    from pipelines.rounds import driver
    from pipelines.rounds.plan import LEARN
    from pipelines.store.store import Store

    flags = _prepare(verbose, beam_options, runner)
    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if not round_ or opened.commit(round_, "emit") is None:
        raise UserError(f"nothing is proposed in {store}; `gnome round propose {store}` comes first")
    _follow(driver.run_stages(opened, round_, LEARN, flags, run_jobs=False))
    status(store)
    report(store)


@rounds.command()
def resume(
    store: StoreArg,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Finish the round that was interrupted; committed stages are kept as they are."""
    from pipelines.rounds import driver
    from pipelines.rounds.plan import stages_of
    from pipelines.store.store import Store

    flags = _prepare(verbose, beam_options, runner)
    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if round_ is None:
        typer.echo(f"nothing to resume: round {opened.rounds()[-1]} is finished")
        return
    _follow(driver.run_stages(opened, round_, stages_of(round_), flags))


@rounds.command()
def plan(store: StoreArg) -> None:
    """Show which stages the next `run` will run and what they read."""
    from pipelines.rounds import driver
    from pipelines.rounds.plan import inputs_of, stages_of
    from pipelines.store.records import stage_key
    from pipelines.store.store import Store

    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if round_ is None:
        round_ = opened.rounds()[-1] + 1
    for stage in stages_of(round_):
        state = "committed" if opened.commit(round_, stage) else "to run"
        reads = ", ".join(stage_key(*key) for key in inputs_of(round_, stage)) or "the snapshot"
        typer.echo(f"{stage_key(round_, stage):16} {state:10} reads {reads}")


@rounds.command("status")
def show_status(
    store: StoreArg,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing the newest round, until Ctrl-C.")] = False,
) -> None:
    """Show every stage's counts, and each round's hit rates and errors."""
    from pipelines.cli.status import watch_status
    from pipelines.store.store import Store

    if watch:
        watch_status(Store.open(store))
    else:
        status(store)


def status(store: str) -> None:
    from pipelines.cli.status import print_status
    from pipelines.store.store import Store

    print_status(Store.open(store))


@app.command()
def report(
    store: StoreArg,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="HTML file; STORE/report.html.")] = None,  # noqa: UP045
) -> None:
    """Write one self-contained HTML file about all rounds and print its path."""
    from pipelines.report.collect import collect
    from pipelines.report.page import render, write_report
    from pipelines.store.store import Store

    opened = Store.open(store)
    if output is None and opened.storage.local_path("") is None:  # a bucket's report goes into the bucket
        opened.storage.write("report.html", render(collect(opened)).encode())
        typer.echo(opened.storage.address("report.html"))
    else:
        typer.echo(write_report(collect(opened), output or opened.output_path("report.html")))


@app.command()
def show(
    store: StoreArg,
    id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[ID]", help="Entry or job id; its start is enough. None: where discoveries come from."),
    ] = None,
):
    """Show an entry: energies, decomposition, how it was made. Without an id: the origins of all discoveries."""
    from pipelines.cli.show import print_entry, print_origins
    from pipelines.store.store import Store

    if id is None:
        print_origins(Store.open(store))
    else:
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
    from pipelines.cli.export import export_entries
    from pipelines.store.store import Store

    opened = Store.open(store)
    output = output or opened.output_path(f"export.{format}")
    n = export_entries(opened, output, stable_only=stable, format=format)
    typer.echo(f"{n} entries written to {output}")


@app.command()
def compositions(
    formulas: Annotated[Optional[list[str]], typer.Argument(metavar="[FORMULA...]", help="Judge these.")] = None,  # noqa: UP045
    elements: Annotated[Optional[str], typer.Option(help="As Li,Si,O; overrides generation.elements.")] = None,  # noqa: UP045
    config: ConfigOption = None,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Text file of those that pass.")] = None,  # noqa: UP045
) -> None:
    """Count the compositions that random search would take, and the share that each oxidation rule lets pass."""
    from pipelines.cli.compositions import print_compositions

    print_compositions(_generation(config, formulas, elements), output)


@app.command()
def seeds(
    formulas: Annotated[list[str], typer.Argument(metavar="FORMULA...", help="Such as Li15Si4.")],
    config: ConfigOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the .cell files.")] = Path("seeds"),
) -> None:
    """Write commented .cell seeds for AIRSS, with the settings that our own random search uses."""
    from pipelines.cli.compositions import write_seeds

    for path in write_seeds(formulas, _generation(config), output):
        typer.echo(path)


@app.command()
def replay(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Parquet: crystals or compositions with labels.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for curves, tables and page.")] = Path(
        "replay"
    ),
    policies: Annotated[
        str, typer.Option(help="Of ours, random, uncertainty, lcb, cheapest.")
    ] = "ours,random,uncertainty,lcb",
    seeds: Annotated[int, typer.Option(min=1, help="Campaigns of each policy.")] = 5,
    initial: Annotated[float, typer.Option(help="Share of the data that is known at the start.")] = 0.05,
    spend: Annotated[float, typer.Option(help="Share of the hidden data that is evaluated.")] = 0.1,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to spend it in.")] = 8,
    by_cost: Annotated[bool, typer.Option("--by-cost", help="Spend that share of the estimated DFT cost.")] = False,
    kappa: Annotated[float, typer.Option(help="Of our policy, as in round.toml.")] = 0.0,
    explore: Annotated[float, typer.Option(help="Of our policy, as in round.toml.")] = 0.0,
    label: Annotated[str, typer.Option(help="Column of formation energies, eV/atom.")] = "e_form_per_atom",
    distance: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Column of distances to the hull, to be learned instead. Default: the table's own hull."),
    ] = None,
    stable_below: Annotated[float, typer.Option(help="eV/atom above the hull up to which a crystal is stable.")] = 5e-5,
    holdout: Annotated[str, typer.Option(help="none | holdout-v1: leave out the withheld chemical systems.")] = "none",
    jobs: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
) -> None:
    """Run the flywheel on known data with hidden labels, to compare policies of selection."""
    from rich.console import Console

    from pipelines.cli.replay_run import parse_config, run_replay
    from pipelines.errors import UserError

    if holdout not in ("none", "holdout-v1"):
        raise UserError(f"--holdout {holdout}: must be none or holdout-v1")
    config = parse_config(
        policies=tuple(policies.split(",")),
        seeds=seeds,
        initial=initial,
        spend=spend,
        rounds=rounds,
        by_cost=by_cost,
        kappa=kappa,
        explore=explore,
    )
    console = Console(stderr=True)
    with console.status("") as status:
        analysis = run_replay(
            dataset,
            output,
            config,
            label=label,
            distance=distance,
            stable_below=stable_below,
            holdout=holdout != "none",
            jobs=jobs,
            progress=status.update,
        )
    for label_, value in analysis.summary.items():
        typer.echo(f"{label_:35} {'-' if value is None else value}")
    for row in analysis.tables["policies"].to_pylist():
        deviations = [row[f"{name}_deviation"] or 0.0 for name in ("found", "ratio")]
        ratio = f"   {row['ratio']:.2f} ± {deviations[1]:.2f} times random" if row["ratio"] is not None else ""
        typer.echo(f"{row['policy']:12} {row['found']:8.1f} ± {deviations[0]:.1f} found{ratio}")
    typer.echo(str(output / "replay.html"))


@app.command("fit-superionic")
def fit_superionic(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Measured conductivities, Parquet or CSV (OBELiX).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file.")] = Path("superionic.json"),
    holdout: Annotated[str, typer.Option(help="none | holdout-v1: leave out the withheld chemical systems.")] = "none",
) -> None:
    """Fit the classifier that `gnome analyse STORE li-conductors --classifier` uses."""
    from pipelines.analyses import fit_classifier

    for line in fit_classifier(table, output, holdout):
        typer.echo(line)


@app.command()
def config() -> None:
    """Print a round.toml with every setting, its default and what it means."""
    from pipelines.rounds.config import RoundConfig
    from pipelines.rounds.toml import config_toml

    typer.echo(config_toml(RoundConfig()), nl=False)


def _config(
    path: Path | None,
    base=None,
    snapshot: str | None = None,
    evaluator: str | None = None,
    recompute: bool = False,
):
    from pipelines.rounds.config import RoundConfig, load_config, parse_config

    settings = load_config(str(path)) if path else base or RoundConfig()
    if snapshot:
        settings = settings.model_copy(update={"snapshot": snapshot})
    if recompute:
        settings = settings.model_copy(update={"recompute": True})
    if evaluator:
        document = settings.document()
        document["evaluation"]["evaluator"] = evaluator
        settings = parse_config(document, "--evaluator")
    return settings


def _generation(path: Path | None, formulas: list[str] | None = None, elements: str | None = None):
    """The [generation] table with what the command line says about compositions."""
    from pipelines.rounds.config import parse_config

    document = _config(path).document()
    if formulas:
        document["generation"]["compositions"]["formulas"] = formulas
    if elements:
        document["generation"]["elements"] = [symbol.strip() for symbol in elements.split(",")]
    return parse_config(document, "command line").generation


def _next_config(store, path: Path | None, evaluator: str | None):
    from pipelines.rounds.config import load_round_config

    return _config(path, base=load_round_config(store, store.rounds()[-1]), evaluator=evaluator)


def _prepare(verbose: bool, beam_options: list[str] | None, runner: str | None) -> list[str]:
    """Set this process up and give the Beam options; before anything loads Beam or jax."""
    from pipelines.beam.environment import prepare
    from pipelines.beam.runners import VERBOSE_FLAG, expand_runner

    prepare(verbose)
    return expand_runner(runner, [*([VERBOSE_FLAG] if verbose else []), *(beam_options or [])])


def _follow(events: Iterable) -> None:
    """Show the stages as they run: how far the running one is, and one line for each that ended."""
    from rich.console import Console

    from pipelines.beam.progress import shown
    from pipelines.cli.status import stage_line
    from pipelines.rounds.driver import Started
    from pipelines.store.records import stage_key

    console = Console(stderr=True)
    with shown(console) as begin:
        for event in events:
            if isinstance(event, Started):
                begin(stage_key(event.round, event.stage))
            else:
                console.print(stage_line(event.commit, event.reused), highlight=False, soft_wrap=True)


cli_models.add_commands(app)
cli_store.add_commands(app)

if __name__ == "__main__":
    main()
