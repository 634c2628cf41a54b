"""`gnome init` and `gnome round`: what runs stages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.config import round_config
from pipelines.cli.drop import drop
from pipelines.cli.hints import say_next
from pipelines.cli.options import (
    BeamOptions,
    ConfigOption,
    EvaluatorOption,
    JsonOption,
    RunnerOption,
    StoreArg,
    VerboseOption,
)
from pipelines.cli.outcomes import report_store

if TYPE_CHECKING:
    from pipelines.rounds.config import RoundConfig
    from pipelines.store.store import Store

app = typer.Typer(no_args_is_help=True, help="Run the rounds of a store: run, or propose and learn; resume; status.")


def init(
    store: StoreArg,
    snapshot: Annotated[
        list[str] | None,
        typer.Option(
            help="embedded | FILE or FOLDER of crystals | gnome-csv:FILE | mp-entries:FILE | mp-api or "
            "mp-api:Li-P-S-Cl | optimade:URL; give it again to add another."
        ),
    ] = None,
    chemsys: Annotated[
        str | None, typer.Option(help="As Li-P-S-Cl: known crystals of these elements alone, with all subsystems.")
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
    from pipelines.cli.outputs import check_output
    from pipelines.errors import JobsPending
    from pipelines.rounds import driver
    from pipelines.rounds.plan import stages_of
    from pipelines.store.storage import is_local

    flags = _prepare(verbose, beam_options, runner)
    runner_flags(flags)  # complain before anything is made
    if is_local(store):
        check_output(Path(store), folder=True)
    settings = round_config(config, snapshots=snapshot, chemsys=chemsys, evaluator=evaluator, recompute=recompute)
    made = driver.init_store(store, settings)
    try:
        _follow(store, driver.run_stages(made, 0, stages_of(0), flags, run_jobs=not emit_only))
    except JobsPending as pending:
        if not emit_only:
            raise
        typer.echo(str(pending))
    else:
        say_next(("round", "run", store))


@app.command()
def run(
    store: StoreArg,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to run; a round that was interrupted counts.")] = 1,
    config: ConfigOption = None,
    evaluator: EvaluatorOption = None,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Run whole rounds, ask the judge of `confirm.by` about them, then show what was found and write the report."""
    from pipelines.cli.status_text import print_outcome
    from pipelines.rounds import driver
    from pipelines.rounds.config import load_round_config
    from pipelines.rounds.plan import stages_of
    from pipelines.store.store import Store

    flags = _prepare(verbose, beam_options, runner)
    opened = Store.open(store)
    for _ in range(rounds):
        round_ = driver.open_or_start_round(opened, _next_config(opened, config, evaluator))
        _follow(store, driver.run_stages(opened, round_, stages_of(round_), flags))
    if (settings := load_round_config(opened, opened.rounds()[-1])).confirm.by:
        _second_opinion(opened, settings, flags)
    print_outcome(opened)
    report_store(store)
    say_next(("top", store))


@app.command()
def propose(
    store: StoreArg,
    config: ConfigOption = None,
    evaluator: EvaluatorOption = None,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Generate, score, select and emit jobs; evaluate them when you like, then `gnome round learn`."""
    from dft.names import ENGINES
    from pipelines.rounds import driver
    from pipelines.rounds.config import load_round_config
    from pipelines.rounds.plan import PROPOSE
    from pipelines.store.store import Store

    flags = _prepare(verbose, beam_options, runner)
    opened = Store.open(store)
    round_ = driver.open_or_start_round(opened, _next_config(opened, config, evaluator))
    _follow(store, driver.run_stages(opened, round_, PROPOSE, flags))
    in_folders = load_round_config(opened, round_).evaluation.evaluator in ENGINES
    say_next(*([("dft", "run", store)] if in_folders else []), ("round", "learn", store))


@app.command()
def learn(
    store: StoreArg,
    runner: RunnerOption = None,
    verbose: VerboseOption = False,
    beam_options: BeamOptions = None,
) -> None:
    """Evaluate what was proposed, ingest the results, update the hull, retrain, report.

    Of first-principles jobs it takes the results that are there; later ones come in with the next round.
    """
    from pipelines.cli.status_text import print_outcome
    from pipelines.errors import UserError
    from pipelines.rounds import driver
    from pipelines.rounds.plan import LEARN
    from pipelines.store.store import Store

    flags = _prepare(verbose, beam_options, runner)
    opened = Store.open(store)
    round_ = driver.open_round(opened)
    if not round_ or opened.commit(round_, "emit") is None:
        raise UserError(f"nothing is proposed in {store}; `gnome round propose {store}` comes first")
    _follow(store, driver.run_stages(opened, round_, LEARN, flags, run_jobs=False))
    print_outcome(opened)
    report_store(store)
    say_next(("top", store))


@app.command()
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
    else:
        _follow(store, driver.run_stages(opened, round_, stages_of(round_), flags))
    say_next(("top", store) if round_ else ("round", "run", store))


app.command()(drop)


@app.command()
def plan(store: StoreArg) -> None:
    """Show which stages the next `run` will run and what they read, and how many evaluations it may ask for."""
    from pipelines.cli.potential_text import planned
    from pipelines.rounds import driver
    from pipelines.rounds.config import load_round_config
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
    settings = load_round_config(opened, opened.rounds()[-1])
    if round_ and (asked := settings.most_evaluations()):
        parts = ", ".join(f"{n} {what}" for what, n in asked.items())
        typer.echo(f"at most {sum(asked.values())} evaluations: {parts}")
    for line in planned(opened, round_, settings):
        typer.echo(line)


@app.command()
def status(
    store: StoreArg,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing the newest round, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every stage's counts, and each round's hit rates and errors."""
    from pipelines.errors import UserError
    from pipelines.store.store import Store

    if as_json:
        from pipelines.cli.documents import status_document
        from pipelines.cli.json_text import print_json

        if watch:
            raise UserError("--watch shows, --json prints once: choose one")
        print_json(status_document(Store.open(store)))
        return
    from pipelines.cli.status_text import print_status, watch_status

    (watch_status if watch else print_status)(Store.open(store))


def _second_opinion(store: Store, settings: RoundConfig, flags: list[str]) -> None:
    """Ask the judge of the settings, where anything was found."""
    from pipelines.beam.runners import runner_flags
    from pipelines.cli.confirm_text import second_opinion
    from pipelines.evaluation.confirming import NothingFound

    try:
        second_opinion(store, settings, runner_flags(flags))
    except NothingFound as nothing:
        typer.echo(str(nothing), err=True)


def _next_config(store: Store, path: Path | None, evaluator: str | None) -> RoundConfig | None:
    """What the command line says of the next round, or None: the last round's settings."""
    from pipelines.rounds.config import load_round_config

    if path is None and evaluator is None:
        return None
    return round_config(path, base=load_round_config(store, store.rounds()[-1]), evaluator=evaluator)


def _prepare(verbose: bool, beam_options: list[str] | None, runner: str | None) -> list[str]:
    """Set this process up and give the Beam options; before anything loads Beam or jax."""
    from pipelines.beam.environment import prepare
    from pipelines.beam.runners import VERBOSE_FLAG, expand_runner

    prepare(verbose)
    return expand_runner(runner, [*([VERBOSE_FLAG] if verbose else []), *(beam_options or [])])


def _follow(store: str, events: Iterable) -> None:
    """Show the stages as they run: how far the running one is, and one line for each that ended.

    On stdout, so that a file that it goes to has them as they come.
    """
    from pipelines.beam.progress import shown
    from pipelines.cli.dead import first_dead
    from pipelines.cli.interrupts import stopped_with
    from pipelines.cli.potential_text import potential_line
    from pipelines.cli.status_text import energies_line, stage_line
    from pipelines.cli.terminal import Terminal
    from pipelines.rounds.driver import Started
    from pipelines.store.records import stage_key
    from pipelines.store.store import Store

    console, running = Terminal(soft_wrap=True), ""

    def where() -> str:
        begun = f"stopped in {running}" if running else "stopped"
        return f"{begun}; `gnome round resume {store}` goes on"

    with shown(console) as begin, stopped_with(where):
        for event in events:
            if isinstance(event, Started):
                running = stage_key(event.round, event.stage)
                begin(running)
            else:
                console.print(stage_line(event.commit, event.reused))
                if not event.reused:
                    for line in first_dead(Store(store), event.commit.files, f"`gnome dead {store}`"):
                        console.print(line)
                    if said := energies_line(event.commit) or potential_line(Store(store), event.commit):
                        console.print(said)
