"""`gnome relax` and `gnome judge`: evaluators outside rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import JsonOption

ENDINGS = (".parquet", ".csv", ".extxyz", ".cif")
SourceArg = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="FILE or FOLDER of crystals (docs/inputs.md), embedded, optimade:URL ..."),
]
EVALUATORS = (
    "embedded | chgnet-distilled | chgnet | chgnet-r2scan | nequix-oam-1 | nequix-oam-1-pft | pretrained | "
    "potential:FILE | ase:..."
)
FmaxOption = Annotated[float, typer.Option(min=1e-6, help="Largest force at the end, eV/Å.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Steps after which a crystal counts as not converged.")]


def relax(
    source: SourceArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet, .csv, .extxyz, or .cif (a folder).")],
    evaluator: Annotated[str, typer.Option("--evaluator", help=EVALUATORS)] = "embedded",
    hull: Annotated[
        str | None, typer.Option("--hull", help="STORE | FILE of labelled crystals | mp: measure e_above_hull.")
    ] = None,
    fmax: FmaxOption = 0.05,
    max_steps: StepsOption = 300,
    single_point: Annotated[bool, typer.Option("--single-point", help="Evaluate as given, move nothing.")] = False,
    pressure: Annotated[float, typer.Option(help="GPa, from outside.")] = 0.0,
    fixed_cell: Annotated[bool, typer.Option("--fixed-cell", help="Move the atoms only.")] = False,
    keep_symmetry: Annotated[bool, typer.Option("--keep-symmetry", help="Keep each crystal's symmetry.")] = False,
) -> None:
    """Relax crystals: energies, formation energies, distance to a hull. Interrupted, it goes on when called again."""
    from pipelines.beam.environment import prepare

    prepare(verbose=False)
    import shutil

    from dft.tables import DONE
    from gnome_core.potentials.config import RelaxConfig
    from gnome_core.stability.published import as_published
    from pipelines.cli.outputs import check_output, writing
    from pipelines.cli.relax_text import evaluator_named, hull_named, read_crystals, tell_failures, write_relaxed
    from pipelines.cli.terminal import progress_bar
    from pipelines.errors import UserError
    from pipelines.evaluation.constrained import constrained
    from pipelines.evaluation.relaxing import KeptBatches, described, formation_energies, references_for, relaxed

    if single_point and (pressure or fixed_cell or keep_symmetry):
        raise UserError("--single-point moves nothing: leave out --pressure, --fixed-cell and --keep-symmetry")
    check_output(output, ENDINGS, folder=output.suffix == ".cif")
    engine = evaluator_named(evaluator, RelaxConfig(fmax=fmax, max_steps=max_steps), single_point)
    measured = hull_named(hull, engine.scale) if hull else None
    ids, crystals = read_crystals(source)
    kept = KeptBatches(output.with_name(f".{output.name}.parts"))
    evaluate, settings = constrained(engine, pressure, not fixed_cell, keep_symmetry)
    with progress_bar("relaxing", len(crystals), "crystals") as advance:
        results = relaxed(engine, crystals, evaluate, kept, advance, settings)
    elements = sorted({int(z) for crystal in crystals for z in crystal.numbers})
    references = references_for(engine, elements, kept)
    if hull == "mp":
        references = as_published(references)
    table = described(ids, crystals, results, formation_energies(results, references), measured)
    with writing(output):
        write_relaxed(table, output)
    if kept.folder:
        shutil.rmtree(kept.folder, ignore_errors=True)
    done = sum(status == DONE for status in table["status"].to_pylist())
    typer.echo(f"{output}: {done} of {len(table)} crystals {'evaluated' if single_point else 'relaxed'} by {evaluator}")
    tell_failures(table)


def judge(
    evaluator: Annotated[str, typer.Argument(metavar="JUDGE", help=f"{EVALUATORS} | structural | compositional")],
    source: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Crystals with published e_form_per_atom; else 396 of WBM."),
    ] = None,
    disturb: Annotated[
        bool, typer.Option("--disturb", help="Begin from cells 5 % larger and atoms moved by 0.1 Å.")
    ] = False,
    single_point: Annotated[bool, typer.Option("--single-point", help="Judge the crystals as given.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many crystals only.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="FILE.parquet or .csv with every row.")] = None,
    as_json: JsonOption = False,
    fmax: FmaxOption = 0.05,
    max_steps: StepsOption = 300,
) -> None:
    """Compare a judge's formation energies and "stable" with published ones, on the Materials Project's hull."""
    from pipelines.beam.environment import prepare

    prepare(verbose=False)
    from gnome_core.potentials.config import RelaxConfig
    from pipelines.cli.model_text import tell_left_out
    from pipelines.cli.outputs import check_output
    from pipelines.cli.relax_text import print_verdict
    from pipelines.cli.terminal import progress_bar
    from pipelines.errors import UserError
    from pipelines.evaluation.judging import judge_ensemble, judge_evaluator, labelled

    if single_point and disturb:
        raise UserError("--single-point judges the crystals as given: leave out --disturb")
    check_output(output, (".parquet", ".csv"))
    rows = labelled(source, limit)
    tell_left_out(rows.rows)
    with progress_bar("judging", len(rows.crystals), "crystals") as advance:
        if evaluator in ("structural", "compositional"):
            found = judge_ensemble(evaluator, rows, advance)
        else:
            from pipelines.cli.relax_text import evaluator_named

            engine = evaluator_named(evaluator, RelaxConfig(fmax=fmax, max_steps=max_steps), single_point)
            found = judge_evaluator(engine, rows, disturb, advance)
    print_verdict(evaluator, found, output, as_json)
