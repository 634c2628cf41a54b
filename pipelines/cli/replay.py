"""`gnome replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import HoldoutOption


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
        str | None,
        typer.Option(help="Column of distances to the hull, to be learned instead. Default: the table's own hull."),
    ] = None,
    stable_below: Annotated[float, typer.Option(help="eV/atom above the hull up to which a crystal is stable.")] = 5e-5,
    holdout: HoldoutOption = "none",
    jobs: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
) -> None:
    """Run the flywheel on known data with hidden labels, to compare policies of selection."""
    from rich.console import Console

    from pipelines.cli.outputs import check_output
    from pipelines.cli.replay_run import parse_config, run_replay

    check_output(output, folder=True)
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
