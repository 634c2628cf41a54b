"""`gnome potential`: get, train, flagged, test, label, md, screen, classify."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.hints import say_next
from pipelines.cli.options import (
    BandGapsOption,
    BeamOptions,
    LimitOption,
    NewOption,
    OnlyOption,
    SkipOption,
    StoreArg,
)

app = typer.Typer(no_args_is_help=True, help="Train potentials, run molecular dynamics, screen conductors.")

PotentialConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="potential.toml; `gnome potential config` prints one."),
]
FramesArgs = Annotated[
    list[str],
    typer.Argument(metavar="FRAMES...", help="As for `test`; an energy scale is a level of theory, the first answers."),
]
FramesArg = Annotated[
    str,
    typer.Argument(metavar="FRAMES", help="STORE | FOLDER of labels | FILE.parquet | extxyz or what else ASE reads"),
]
POTENTIALS = (
    "embedded | chgnet-distilled | chgnet | chgnet-r2scan | nequix-oam-1 | nequix-oam-1-pft | pretrained | "
    "stillinger-weber | FILE.npz | FILE.nqx | ase:MODULE:FUNCTION"
)
PotentialOption = Annotated[str, typer.Option("--potential", help="pretrained | FILE.npz")]
SeedOption = Annotated[int, typer.Option(min=0)]


@app.command()
def config() -> None:
    """Print a potential.toml with every setting, its default and what it means."""
    from pipelines.potentials.config import PotentialConfig
    from pipelines.rounds.toml import config_toml

    typer.echo(config_toml(PotentialConfig(), "Settings of gnome potential; keys left out keep these values"), nl=False)


@app.command()
def train(
    frames: FramesArgs,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.npz; a .json is written beside it.")],
    config: PotentialConfigOption = None,
    init_from: Annotated[
        str | None, typer.Option("--from", help="Potential to fine-tune: chgnet | chgnet-r2scan | FILE.npz.")
    ] = None,
) -> None:
    """Train a potential on energies, forces and stresses. An interrupted training goes on when called again."""
    _set_up()
    import numpy as np

    from gnome_core.potentials.frames import split_groups, with_levels
    from gnome_core.potentials.learnt import corrected
    from pipelines.cli.outputs import check_output
    from pipelines.errors import UserError
    from pipelines.potentials.config import load_potential_config
    from pipelines.potentials.read_frames import read_frames, references_of

    check_output(output, (".npz",))
    settings = load_potential_config(str(config) if config else None)
    given = [read_frames(source, settings.holdout) for source in frames]
    mild = [one.take(np.array([np.abs(f).max() <= settings.max_force for f in one.forces], bool)) for one in given]
    if not any(map(len, mild)):
        raise UserError(f"{' '.join(frames)}: no frame has only forces up to max_force = {settings.max_force:g} eV/Å")
    sources = [corrected(one) for one in mild]
    refused = sum(map(len, mild)) - sum(map(len, sources))
    labelled = with_levels(sources) if len(sources) > 1 else sources[0]
    is_train = split_groups(labelled.groups, settings.training.val_fraction, settings.seed)
    # Takes seconds to import, as jax_md below: what is wrong above is said before.
    from gnome_core.training.potential.loop import train_potential

    with _progress("training", settings.training.epochs, "epochs") as show:
        try:
            result = train_potential(
                labelled,
                is_train,
                seed=settings.seed,
                out_dir=output.parent,
                name=output.stem,
                model=None if init_from else settings.network(labelled.elements, int(labelled.level.max()) + 1),
                training=settings.training,
                references=references_of(frames[0]) if settings.training.shifts == "references" else None,
                init_from=init_from,
                origin=f"{len(labelled)} frames of {', '.join(Path(source).name for source in frames)}",
                progress=lambda row: show(int(row["epoch"]), _describe(row)),
            )
        except ValueError as error:
            raise UserError(str(error)) from None
    counts = f"{result.n_train} frames trained, {result.n_val} validated, "
    violent = sum(map(len, given)) - sum(map(len, mild))
    left_out = f"{violent} left out for forces above {settings.max_force:g} eV/Å"
    typer.echo(f"{result.path}: {counts}{left_out}" + (f", {refused} without a correction" if refused else ""))
    _print_errors(result.errors)
    say_next(("init", "STORE", "--evaluator", f"potential:{result.path}", "--recompute"))


@app.command()
def flagged(
    store: StoreArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet; `label` and all that reads crystals.")],
) -> None:
    """Write the frames on which the potentials of the last round that trained any disagree most, for a dearer judge."""
    from gnome_core.crystals.writers import write_parquet
    from pipelines.cli.outputs import check_output, writing
    from pipelines.reading.potentials import flagged_frames
    from pipelines.store.store import Store

    check_output(output, (".parquet",))
    round_, frames = flagged_frames(Store.open(store))
    with writing(output):
        write_parquet(frames, output)
    typer.echo(f"{output}: {len(frames)} frames that round {round_} flagged")
    say_next(("potential", "label", str(output), "--teacher", "nequix-oam-1", "-o", "FOLDER"))


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="nequix-oam-1 | nequix-oam-1-pft")],
    file: Annotated[Path | None, typer.Argument(help="A copy at hand, where there is no network.")] = None,
) -> None:
    """Fetch a published potential into this user's cache, once, and check that it is the published one."""
    from gnome_core.potentials.published import PUBLISHED, get
    from pipelines.errors import UserError

    if name not in PUBLISHED:
        raise UserError(f"no published potential {name!r}; there is: {', '.join(PUBLISHED)}")
    path = get(name, file)
    typer.echo(f"{path}\nlicence: {PUBLISHED[name].licence}\nplease cite: {PUBLISHED[name].citation}")
    say_next(("init", "STORE", "--evaluator", name))


@app.command("test")
def compare(
    potential: Annotated[str, typer.Argument(metavar="POTENTIAL", help=POTENTIALS)],
    frames: FramesArg,
    dynamics: Annotated[
        bool,
        typer.Option(
            "--dynamics",
            help="Also run the frame of the smallest forces: 1 ps without a thermostat, 5 ps up to 2,000 K.",
        ),
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """Compare a potential with the labels of frames: errors, softening, and how its dynamics keeps up."""
    _set_up()
    from gnome_core.potentials.by_name import make_potential
    from gnome_core.potentials.errors import potential_errors
    from gnome_core.potentials.learnt import CORRECTED, corrected
    from gnome_core.potentials.nequip_potential import TrainedPotential
    from pipelines.errors import UserError
    from pipelines.potentials.read_frames import read_frames

    made = make_potential(potential)
    if dynamics and not isinstance(made, TrainedPotential):
        raise UserError(f"{potential}: molecular dynamics needs a trained potential (pretrained, FILE.npz)")
    labelled = read_frames(frames)
    if f"+{CORRECTED}" in made.scale:
        labelled = corrected(labelled)
    errors = potential_errors(made, labelled)
    _print_errors(errors)
    if "force_slope" in errors:
        typer.echo(f"softening: predicted forces are {errors['force_slope']:.3f} of the labels' (slope; 1 is right)")
    if dynamics and isinstance(made, TrainedPotential):
        from gnome_core.potentials.endurance import endurance

        calmest = min(range(len(labelled)), key=lambda i: abs(labelled.forces[i]).max())
        ran = endurance(labelled.crystals[calmest], made, seed)
        typer.echo(f"drift without a thermostat: {ran.drift:+.3f} meV/atom/ps, {ran.n_atoms} atoms at 300 K")
        lived = "all of it" if ran.stopped is None else ran.stopped
        typer.echo(f"up to 2,000 K: {ran.hot_time:.2f} of {ran.hot_planned:g} ps, {lived}")


@app.command()
def label(
    source: Annotated[
        str, typer.Argument(help="embedded | FILE or FOLDER of crystals | gnome-csv:FILE | optimade:URL")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder or gs://BUCKET/PATH; `gnome potential train` reads it.")
    ],
    teacher: Annotated[str, typer.Option(help=POTENTIALS)] = "embedded",
    copies: Annotated[int, typer.Option(min=0, help="Distorted copies of each crystal beside itself.")] = 0,
    rattle: Annotated[float, typer.Option(min=0, help="Largest standard deviation of atoms in copies, Å.")] = 0.2,
    strain: Annotated[float, typer.Option(min=0, help="Largest standard deviation of strains in copies.")] = 0.05,
    steps: Annotated[
        int, typer.Option(min=1, help="Frames of each crystal: the first of its relaxation by the teacher.")
    ] = 1,
    elements: Annotated[str | None, typer.Option(help="Only crystals of these, comma-separated.")] = None,
    seed: SeedOption = 0,
    beam_options: BeamOptions = None,
) -> None:
    """Label crystals, and distorted copies of them, with a teacher: frames for synthetic pre-training."""
    flags = _set_up(beam_options)
    from rich.console import Console

    from dft.tables import DONE
    from gnome_core.compositions.formulas import NUMBERS
    from pipelines.beam.progress import shown
    from pipelines.cli.dead import first_dead
    from pipelines.cli.outputs import check_output
    from pipelines.cli.terminal import printable
    from pipelines.errors import UserError
    from pipelines.potentials.label import label as run
    from pipelines.potentials.label import outcomes
    from pipelines.store.storage import is_local
    from pipelines.store.store import Store

    if is_local(output):
        check_output(Path(output), folder=True)
    symbols = elements.split(",") if elements else []
    if unknown := [symbol for symbol in symbols if symbol not in NUMBERS]:
        raise UserError(f"--elements {elements}: {', '.join(unknown)} is no element")
    wanted = frozenset(NUMBERS[symbol] for symbol in symbols)
    with shown(Console(stderr=True)) as begin:
        begin("label")
        manifest = run(source, teacher, output, copies, rattle, strain, seed, flags, wanted, steps)
    counts = manifest.counts
    found = outcomes(output, manifest)
    refused = "".join(f", {reason} {n}" for reason, n in sorted(found.items()) if reason != DONE)
    typer.echo(
        f"{found[DONE]} of {counts.n_in} labelled in {output}; "
        f"rejected {counts.n_rejected}, dead {counts.n_dead}{refused}"
    )
    for line in first_dead(Store(output), manifest.files, f"{output}/labels/dead"):
        typer.echo(printable(line), err=True)
    say_next(("potential", "train", output, "-o", "FILE.npz"))


@app.command()
def md(
    crystal: Annotated[Path, typer.Argument(help="A file of crystals (CIF, POSCAR, extxyz, ...); the last counts.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet or FILE.extxyz")],
    potential: PotentialOption = "pretrained",
    config: PotentialConfigOption = None,
    temperature: Annotated[float | None, typer.Option(help="K; overrides md.temperature.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Run molecular dynamics on one crystal. An interrupted run goes on when called again."""
    _set_up()
    from gnome_core.crystals.sources.formats import read_structure
    from pipelines.cli.outputs import check_output, writing
    from pipelines.errors import UserError
    from pipelines.potentials.config import load_potential_config
    from pipelines.potentials.trajectories import ENDINGS, checkpoint_path, drop_checkpoint, write_trajectory

    check_output(output, ENDINGS)
    settings = load_potential_config(str(config) if config else None).md
    if temperature is not None:
        settings = settings.model_copy(update={"temperature": temperature})
    start = read_structure(crystal)
    from gnome_core.potentials.by_name import make_potential
    from gnome_core.potentials.md import run_digest, run_md
    from gnome_core.potentials.nequip_potential import TrainedPotential

    made = make_potential(potential)
    if not isinstance(made, TrainedPotential):
        raise UserError(f"--potential {potential}: molecular dynamics needs a trained potential (pretrained, FILE.npz)")
    checkpoint = checkpoint_path(output.parent, run_digest(start, made, settings, seed))
    with _progress("molecular dynamics", settings.n_steps, "steps") as show, writing(output):
        try:
            trajectory = run_md(start, made, settings, seed, checkpoint, progress=lambda n, _: show(n, ""))
        except ValueError as error:
            raise UserError(str(error)) from None
        write_trajectory(trajectory, output)
    drop_checkpoint(checkpoint)
    typer.echo(f"{output}: {len(trajectory.times)} frames, {trajectory.times[-1]:.2f} ps")
    if trajectory.stopped:
        raise UserError(f"the run ended early: {trajectory.stopped}")


@app.command()
def screen(
    store: StoreArg,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder; STORE/screen.")] = None,
    potential: PotentialOption = "pretrained",
    config: PotentialConfigOption = None,
    band_gaps: BandGapsOption = None,
    temperatures: Annotated[str, typer.Option(help="K, comma-separated; 1000 classifies.")] = "1000",
    only: OnlyOption = None,
    limit: LimitOption = 20,
    new: NewOption = False,
    skip: SkipOption = 10.0,
    beam_options: BeamOptions = None,
) -> None:
    """Simulate the stable Li, Na, K, Mg and Ca insulators of a store and report which conduct."""
    flags = _set_up(beam_options)
    from rich.console import Console

    from pipelines.beam.progress import shown
    from pipelines.cli.outputs import check_output
    from pipelines.cli.terminal import printable
    from pipelines.errors import UserError
    from pipelines.potentials.config import load_potential_config
    from pipelines.potentials.superionic_screen import CLASSIFIED_AT, choose, verdict, write_page
    from pipelines.potentials.superionic_screen import screen as run
    from pipelines.reading.gaps import read_gaps
    from pipelines.store.store import Store

    settings = load_potential_config(str(config) if config else None)
    try:
        kelvin = [float(word) for word in temperatures.split(",")]
    except ValueError:
        raise UserError(f"--temperatures {temperatures}: numbers separated by commas") from None
    gaps = read_gaps(Path(band_gaps)) if band_gaps else None
    opened = Store.open(store)
    out = output or opened.output_path("screen")
    check_output(out, folder=True)
    chosen, n_found = choose(opened, gaps, new, only, limit)
    with shown(Console(stderr=True)) as begin:
        begin("screen")
        results = run(chosen, str(out), potential, settings.md, kelvin, skip, settings.seed, flags)
    formulas = dict(zip(chosen["id"].to_pylist(), chosen["formula"].to_pylist(), strict=True))
    sources = sorted(Counter(chosen["band_gap_by"].to_pylist()).items())
    insulators = f"gap above 1 eV ({', '.join(f'{n} by {by}' for by, n in sources)})"
    note = (
        f"{len(chosen)} of {n_found} candidates: on the hull, with Li, Na, K, Mg or Ca, {insulators}. "
        f"{settings.md.duration:g} ps after a ramp of {settings.md.ramp:g} ps with the potential {potential}. "
        "Conductivities by the Nernst-Einstein relation from tracer diffusion."
    )
    write_page(results, formulas, out / "screen.html", note)
    for row in results.to_pylist():
        if row["temperature"] == CLASSIFIED_AT:
            sigma = "-" if row["conductivity"] is None else f"{row['conductivity']:.3g} mS/cm"
            typer.echo(printable(f"{formulas[row['id']]:16} {row['ion']:3} {sigma:>14}  {verdict(row)}"))
    typer.echo(out / "screen.html")


@app.command()
def classify(
    table: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="CSV or Parquet: id, a crystal, conductivity (mS/cm at 1,000 K); ion."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of trajectories and of the tables.")],
    potential: PotentialOption = "pretrained",
    config: PotentialConfigOption = None,
    skip: SkipOption = 10.0,
    beam_options: BeamOptions = None,
) -> None:
    """Call materials superionic or not by a potential's dynamics at 1,000 K, beside references such as AIMD's."""
    flags = _set_up(beam_options)
    from rich.console import Console

    from gnome_core.crystals.writers import write_parquet
    from gnome_core.spreadsheets import write_csv
    from pipelines.beam.progress import shown
    from pipelines.cli.outputs import check_output, writing
    from pipelines.cli.terminal import printable
    from pipelines.potentials.classification import agreement, read_references
    from pipelines.potentials.config import load_potential_config
    from pipelines.potentials.superionic_screen import CLASSIFIED_AT
    from pipelines.potentials.superionic_screen import screen as run

    settings = load_potential_config(str(config) if config else None)
    references = read_references(table)
    check_output(output, folder=True)
    with shown(Console(stderr=True)) as begin:
        begin("classify")
        results = run(references, str(output), potential, settings.md, [CLASSIFIED_AT], skip, settings.seed, flags)
    analysis = agreement(references, results)
    materials = analysis.tables["materials"]
    with writing(output):
        write_csv(materials, output / "classification.csv")
        write_parquet(materials, output / "classification.parquet")
    for row in materials.to_pylist():
        sigma = "-" if row["conductivity"] is None else f"{row['conductivity']:.3g}"
        told = f"{row['formula']:16} {row['ion']:3} {row['reference_conductivity']:>10.3g} {sigma:>10} mS/cm"
        typer.echo(printable(f"{told}  {row['verdict']}"))
    for label, value in analysis.summary.items():
        typer.echo(f"{label:45} {'-' if value is None else f'{value:.3g}' if isinstance(value, float) else value}")
    typer.echo(output / "classification.csv")


def _set_up(beam_options: list[str] | None = None) -> list[str]:
    """Before anything loads jax: logs, compiled programs, memory. Returns the Beam options."""
    from pipelines.beam.environment import prepare
    from pipelines.beam.runners import runner_flags

    prepare(verbose=False)
    return runner_flags(beam_options or [])


@contextmanager
def _progress(what: str, total: int, unit: str):
    """A bar on stderr; the block gets a function of (done, remark)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = ("{task.description}", "{task.fields[remark]}")
    with Progress(
        TextColumn(columns[0]), BarColumn(bar_width=30), TextColumn("{task.completed} of {task.total} " + unit),
        TextColumn(columns[1]), TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True),
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=total, remark="")

        def show(done: int, remark: str) -> None:
            bar.update(task, completed=done)
            if remark:
                bar.update(task, remark=remark)

        yield show


def _describe(row: dict[str, float]) -> str:
    if "energy_mae" not in row:
        return ""
    return f"{row['energy_mae']:.1f} meV/atom, {row['force_mae']:.0f} meV/Å"


def _print_errors(errors: dict[str, float]) -> None:
    units = {"energy": "meV/atom", "force": "meV/Å", "stress": "GPa"}
    for name, unit in units.items():
        if f"{name}_mae" in errors:
            typer.echo(f"{name:7} MAE {errors[f'{name}_mae']:8.3f}  RMSE {errors[f'{name}_rmse']:8.3f} {unit}")
