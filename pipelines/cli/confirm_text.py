"""What `gnome confirm` prints: what it will run, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gnome_core.analysis.confirmation import ANSWERS
from gnome_core.analysis.result import Analysis
from pipelines.beam.progress import rough_duration, shown
from pipelines.cli.interrupts import stopped_with
from pipelines.cli.terminal import Terminal
from pipelines.evaluation.confirming import Judge, Plan, Price, evaluate, outcome, plan, price
from pipelines.reading.analyses import keep_analysis
from pipelines.reading.confirmations import beside_each_other, confirmations, disagreements
from pipelines.reading.discoveries import stable_crystals
from pipelines.reading.entries import measured_entries
from pipelines.report.summary import headline
from pipelines.rounds.config import RoundConfig
from pipelines.store.store import Store

SHOWN = 60  # crystals


def second_opinion(
    store: Store,
    config: RoundConfig,
    flags: Sequence[str],
    only: str | None = None,
    dry_run: bool = False,
    run_jobs: bool = True,
) -> Analysis | None:
    """Say what `config.confirm` takes, evaluate it, keep the opinion in the store, print it; None after a dry run.

    only: see `plan`.
    """
    wanted, errors = config.confirm, Terminal(stderr=True, soft_wrap=True)
    assert wanted.by is not None, "callers know whom to ask"
    asked = plan(store, Judge.of(wanted.by, config), wanted.top, wanted.within, wanted.window, only)
    Terminal(soft_wrap=True).print(price_line(asked, price(store, asked)))
    if dry_run:
        return None
    again = f"gnome confirm {store.root} --by {wanted.by}" + (f" --only {only}" if only else "")
    with shown(errors) as begin, stopped_with(lambda: f"stopped; what has ended is kept, `{again}` goes on"):
        begin(f"confirm by {wanted.by}")
        evaluate(store, asked, flags, run_jobs)
    analysis = outcome(store, asked)
    keep_analysis(store, analysis, asked.round)
    print_opinion(store, analysis, asked.round)
    return analysis


def price_line(asked: Plan, cost: Price) -> str:
    """What will be run, and what it costs as far as is known."""
    n, others = len(asked.chosen), len(asked.entries) - len(asked.chosen)
    text = (
        f"{n} {'discovery' if n == 1 else 'discoveries'} and {others} competing phases by {asked.judge.name}, on "
        f"{asked.judge.evaluator.scale}: {cost.crystals} to evaluate ({cost.sites} atoms), {cost.before} evaluated "
        "before"
    )
    if cost.crystals and cost.units is not None:
        text += f"; about {cost.units:.0f} times two atoms of silicon"
    if cost.crystals and cost.seconds is not None:
        text += f", {rough_duration(cost.seconds)}"
    return text


def print_opinion(store: Store, analysis: Analysis, round_: int) -> None:
    """The verdicts, the figures, what judges disagree about, and the headline."""
    console = Terminal(soft_wrap=True)
    table = Table("crystal", "confirmed", "to its hull (meV/atom)", "shift of e_form", "novelty", "why")
    for row in analysis.tables["crystals"].slice(0, SHOWN).to_pylist():
        above, shift = row["e_above_hull"], row["e_form_shift"]
        cells = [f"{row['formula']} {row['id']}", ANSWERS[row["confirmed"]]]
        cells += ["-" if value is None else f"{1000 * value:+.0f}" for value in (above, shift)]
        table.add_row(*cells, row["novelty"], row["why"])
    console.print(table)
    for label, value in analysis.summary.items():
        text = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        console.print(f"  {label:55} {text}")
    opinions = confirmations(store, round_)
    if len(opinions) > 1:
        split = disagreements(beside_each_other(opinions))
        console.print(f"{', '.join(opinions)} disagree about {len(split)} crystals")
        for line in split:
            console.print(f"  {line}")
    console.print(str(headline(stable_crystals(store, measured_entries(store)))), style="bold")
