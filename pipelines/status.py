"""What the terminal shows of a store: a line a stage, and the figures of merit of each round."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from pipelines.store import Commit, Store, stage_key


def stage_line(commit: Commit, reused: bool = False) -> str:
    """One stage in one line: counts, reasons, time."""
    counts = commit.counts
    reasons = [f"{n} {reason}" for reason, n in counts.rejected.items()]
    reasons += [f"{n} dead: {reason}" for reason, n in counts.dead.items()]
    why = f"  ({', '.join(reasons)})" if reasons else ""
    took = "kept" if reused else f"{commit.seconds:.1f} s"
    return f"{commit.key:16} {counts.n_in:>8} in {counts.n_out:>8} out  {took:>8}{why}"


def print_status(store: Store) -> None:
    """Print every committed stage, then hit rates and errors of the rounds that evaluated anything."""
    from pipelines.round import stages_of

    console = Console()
    for round_ in store.rounds():
        for stage in stages_of(round_):
            commit = store.commit(round_, stage)
            console.print(
                stage_line(commit) if commit else f"{stage_key(round_, stage):16} not run",
                highlight=False,
                soft_wrap=True,
            )
    if any(store.commit(round_, "hull") for round_ in store.rounds()[1:]):
        console.print(_summary_table(store))


def _summary_table(store: Store) -> Table:
    from pipelines.report.collect import collect
    from pipelines.report.summary import Share, gain, over_all, summarize

    def hits(model: Share, random: Share) -> list[str]:
        ratio = gain(model, random)
        return [
            str(model.n),
            f"{model.hits} ({model.value:.0%})" if model.n else "-",
            f"{random.hits} of {random.n}",
            "no random hit" if ratio == float("inf") else f"{ratio:.1f}x" if ratio == ratio else "-",
        ]

    data = collect(store)
    rounds = summarize(data)
    table = Table(title=f"{len(data.stable)} new crystals on the hull")
    for column in ("round", "chosen by models", "on or below hull", "by chance", "gain", "MAE meV/atom", "failed"):
        table.add_column(column, justify="right")
    for row in rounds:
        table.add_row(str(row.round), *hits(row.model, row.random), f"{1000 * row.mae:.0f}", str(row.n_failed))
    if len(rounds) > 1:
        together = [over_all(row.model for row in rounds), over_all(row.random for row in rounds)]
        table.add_row("all", *hits(*together), "", str(sum(row.n_failed for row in rounds)))
    return table
