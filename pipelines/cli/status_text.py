"""What the terminal shows of a store: a line a stage, and the figures of merit of each round."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.table import Table

from pipelines.cli.terminal import Terminal
from pipelines.store.records import Commit, stage_key
from pipelines.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def stage_line(commit: Commit, reused: bool = False) -> str:
    """One stage in one line: counts, reasons, time."""
    counts = commit.counts
    reasons = [f"{n} {reason}" for reason, n in counts.rejected.items()]
    reasons += [f"{n} dead: {reason}" for reason, n in counts.dead.items()]
    why = f"  ({', '.join(reasons)})" if reasons else ""
    took = "kept" if reused else f"{commit.seconds:.1f} s"
    return f"{commit.key:16} {counts.n_in:>8} in {counts.n_out:>8} out  {took:>8}{why}"


def energies_line(commit: Commit) -> str:
    """What became of the energies that a snapshot's file states; empty where it states none."""
    kept, unused = commit.metrics.get("labels_kept", 0), commit.metrics.get("energies_unused", 0)
    said = []
    if kept:
        said.append(
            f"formation energies of {kept} crystals are kept beside the evaluator's (reference_e_form_per_atom)"
        )
    if unused:
        said.append(f"other energies of {unused} crystals are not used: the file does not say on which scale they are")
    return f"  {'; '.join(said)}" if said else ""


def print_status(store: Store) -> None:
    """Print every stage, then what `print_outcome` does."""
    from pipelines.cli.potential_text import potential_line
    from pipelines.rounds.plan import stages_of

    console = Terminal()
    for round_ in store.rounds():
        for stage in stages_of(round_):
            commit = store.commit(round_, stage)
            console.print(
                stage_line(commit) if commit else f"{stage_key(round_, stage):16} not run",
                highlight=False,
                soft_wrap=True,
            )
            if commit and (said := potential_line(store, commit)):
                console.print(said, highlight=False, soft_wrap=True)
    print_outcome(store)


def print_outcome(store: Store) -> None:
    """Print what was found, and hit rates and errors of the rounds that evaluated anything."""
    console = Terminal()
    if any(store.commit(round_, "hull") for round_ in store.rounds()[1:]):
        from pipelines.analyses import stored_analyses
        from pipelines.reading.discoveries import stable_crystals
        from pipelines.reading.entries import measured_entries
        from pipelines.reading.outcomes import evaluated_jobs
        from pipelines.report.summary import headline

        found = headline(stable_crystals(store, measured_entries(store)))
        console.print(str(found), style="bold", highlight=False, soft_wrap=True)
        console.print(_summary_table(evaluated_jobs(store)))
        _, damaged = stored_analyses(store)
        for what in damaged:
            console.print(what, highlight=False, soft_wrap=True)


def watch_status(store: Store) -> None:
    """Show the newest round as it goes, whoever runs it, until interrupted."""
    from rich.live import Live

    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(get_renderable=lambda: watched(store), refresh_per_second=1, console=Terminal()),
    ):
        while True:
            time.sleep(3600)


def watched(store: Store) -> Table:
    """The newest round's stages: committed, running (the newest attempt's age, what it has written, how far it is
    and when it may end), or to run."""
    from pipelines.rounds.standing import standings

    round_ = store.rounds()[-1]
    table = Table(title=f"{store.root}, round {round_}{' (finished)' if store.is_closed(round_) else ''}")
    for column in ("stage", "state", "in", "out", "rejected", "dead", "seconds", "so far", "bytes"):
        table.add_column(column, justify="left" if column in ("stage", "state", "so far") else "right")
    for one in standings(store, round_):
        written = f"{one.written:,}"
        if one.commit:
            n = one.commit.counts
            counts = [str(rows) for rows in (n.n_in, n.n_out, n.n_rejected, n.n_dead)]
            table.add_row(one.stage, "committed", *counts, f"{one.seconds:.1f}", "", written)
        elif one.attempts:
            far = str(one.progress or "")
            table.add_row(one.stage, f"attempt {one.attempts}", "", "", "", "", f"{one.seconds:.0f}", far, written)
        else:
            table.add_row(one.stage, "to run")
    return table


def _summary_table(jobs: pa.Table) -> Table:
    from pipelines.report.summary import Share, gain, over_all, summarize

    def hits(model: Share, random: Share) -> list[str]:
        ratio = gain(model, random)
        return [
            str(model.n),
            f"{model.hits} ({model.value:.0%})" if model.n else "-",
            f"{random.hits} of {random.n}",
            "no random hit" if ratio == float("inf") else f"{ratio:.1f}x" if ratio == ratio else "-",
        ]

    rounds = summarize(jobs)
    table = Table()
    for column in ("round", "chosen by models", "on or below hull", "by chance", "gain", "MAE meV/atom", "failed"):
        table.add_column(column, justify="right")
    for row in rounds:
        table.add_row(str(row.round), *hits(row.model, row.random), f"{1000 * row.mae:.0f}", str(row.n_failed))
    if len(rounds) > 1:
        together = [over_all(row.model for row in rounds), over_all(row.random for row in rounds)]
        table.add_row("all", *hits(*together), "", str(sum(row.n_failed for row in rounds)))
    return table
