"""`gnome train`, `gnome predict` and `gnome evaluate`: ensembles outside rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gnome_core.crystals.split import Split
from gnome_core.models.shipped import Framework
from pipelines.cli.config import round_config
from pipelines.cli.hints import say_next
from pipelines.cli.options import ConfigOption

SourceArg = Annotated[str, typer.Argument(metavar="FILE", help="A snapshot (see `gnome init`); or CSV with `formula`.")]
FrameworkOption = Annotated[Framework, typer.Option("--framework", help="What members look at.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Folder that `gnome train` made; else the members that come with the package."),
]
StoreOption = Annotated[str | None, typer.Option("--store", help="Newest members and hull of this store.")]


def train(
    source: SourceArg,
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the members; a rerun resumes.")],
    framework: FrameworkOption = "structural",
    config: ConfigOption = None,
    members: Annotated[int | None, typer.Option(min=1, help="Overrides the settings' number.")] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="SOURCE", help="Another source of rows; `evaluated`: the package's candidates."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Start from these members, or from `pretrained`, the package's own, for training.fine_tune_epochs.",
        ),
    ] = None,
) -> None:
    """Train an ensemble on the labelled crystals, or formulas, of a file."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipelines.beam.environment import prepare
    from pipelines.errors import UserError

    prepare(verbose=False)
    settings = round_config(config)
    if members:
        table = "scoring" if framework == "structural" else "compositional"
        settings = settings.model_copy(update={table: getattr(settings, table).model_copy(update={"members": members})})
    from gnome_core.ensembles.rows import joined, labelled_rows
    from gnome_core.ensembles.workflows import train_ensemble
    from pipelines.cli.model_text import starts, tell_left_out
    from pipelines.cli.outputs import check_output
    from pipelines.cli.terminal import Terminal

    check_output(folder, folder=True)
    console = Terminal(stderr=True)
    n_members, network, own = settings.ensemble_of(framework)
    begun = starts(start, framework, network) if start else []
    sources = [source, *(more or [])]
    rows = joined([labelled_rows(one, framework, settings.holdout) for one in sources])
    typer.echo(f"{len(rows)} labelled rows of {' and '.join(sources)}", err=True)
    tell_left_out(rows)
    if not len(rows):
        raise UserError(f"{source} has nothing to train on; it needs formation energies (column e_form_per_atom)")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        training = own.fine_tuning() if begun else own.settings()
        epochs = training.epochs
        task = bar.add_task("epochs", total=n_members * epochs)

        def show(member: int, row: dict[str, float]) -> None:
            error = f", validation {1000 * row['val_mae']:.0f} meV/atom" if "val_mae" in row else ""
            text = f"member {member}: training loss {1000 * row['train_loss']:.0f}{error}"
            bar.update(task, completed=member * epochs + row["epoch"], description=text)

        results = train_ensemble(
            rows,
            folder,
            n_members=n_members,
            model=network,
            training=training,
            seed=settings.seed,
            init_from=begun,
            progress=show,
        )
    for result in results:
        error = "-" if result.val_mae is None else f"{1000 * result.val_mae:.1f}"
        console.print(
            f"member {result.member}: {result.epochs} epochs, MAE {1000 * result.train_mae:.1f} meV/atom in training, "
            f"{error} in validation",
            highlight=False,
        )
    typer.echo(folder)
    say_next(("evaluate", source, "--model", folder, "--framework", framework))


def predict(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="FILE or FOLDER of crystals (docs/inputs.md); or CSV with formulas.")
    ],
    model: ModelOption = None,
    store: StoreOption = None,
    framework: FrameworkOption = "structural",
    hull: Annotated[
        str | None,
        typer.Option("--hull", help="Labelled snapshot whose hull the energies are measured against."),
    ] = None,
    over_volumes: Annotated[
        Literal["minimum", "median"], typer.Option(help="Of the energies at 20 volumes; see `gnome config`.")
    ] = "median",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV or Parquet; else printed.")] = None,
) -> None:
    """Predict formation energies: median and interquartile range of an ensemble, distance to the hull."""
    from pipelines.beam.environment import prepare

    prepare(verbose=False)
    import dataclasses

    from gnome_core.ensembles.rows import read_rows
    from gnome_core.ensembles.workflows import predict_rows, snapshot_hull, without_compounds
    from pipelines.cli.model_text import tell_left_out, write_predictions
    from pipelines.cli.outputs import check_output, writing
    from pipelines.cli.terminal import progress_bar
    from pipelines.errors import UserError
    from pipelines.reading.ensembles import open_ensemble

    check_output(output, (".csv", ".parquet"))
    ensemble = open_ensemble(model, store, framework)
    if hull:
        ensemble = dataclasses.replace(ensemble, hull=snapshot_hull(hull))
    rows = read_rows(source, ensemble.framework)
    what = "crystals" if ensemble.framework == "structural" else "compositions"
    with progress_bar("predicting", len(rows), what) as advance:
        table, failed = predict_rows(ensemble, rows, over_volumes, advance)
    tell_left_out(rows, failed)
    if hull and ensemble.hull is not None and (alone := without_compounds(ensemble.hull, rows.compositions())):
        typer.echo(
            f"{hull} has no compound of {', '.join(alone)}; what holds them is measured without rivals", err=True
        )
    if not len(table):
        raise UserError(f"{source}: nothing in it can be predicted")
    if output is None:
        write_predictions(table, None)
    else:
        with writing(output):
            write_predictions(table, output)


def evaluate(
    source: SourceArg,
    model: ModelOption = None,
    store: StoreOption = None,
    framework: FrameworkOption = "structural",
    split: Annotated[
        Split, typer.Option(help="train, validation: formulas that `gnome train` trains on, or not.")
    ] = "all",
) -> None:
    """Compare an ensemble with the labels of a file: errors, and how far its spread tells them."""
    from pipelines.beam.environment import prepare

    prepare(verbose=False)
    from gnome_core.ensembles.rows import labelled_rows, split_rows
    from gnome_core.ensembles.workflows import evaluate_rows
    from pipelines.cli.model_text import print_quality, tell_left_out
    from pipelines.reading.ensembles import open_ensemble

    ensemble = open_ensemble(model, store, framework)
    labelled = labelled_rows(source, ensemble.framework, "none")
    tell_left_out(labelled)
    rows = split_rows(labelled, split)
    print_quality(evaluate_rows(ensemble, rows), len(rows), source)
