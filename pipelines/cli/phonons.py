"""`gnome phonons`: dynamic stability of crystals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.relax import EVALUATORS, FmaxOption, SourceArg, StepsOption

TOLERANCE = 0.1  # THz
SUPERCELL = 10.0  # Å
FMAX, MAX_STEPS = 0.005, 500  # frequencies are of a crystal at rest


def phonons(
    source: SourceArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet or .csv.")],
    evaluator: Annotated[str, typer.Option("--evaluator", help=EVALUATORS)] = "embedded",
    tolerance: Annotated[
        float, typer.Option(min=0, help="THz: a crystal without a mode below minus this is dynamically stable.")
    ] = TOLERANCE,
    supercell: Annotated[
        float, typer.Option(min=3, max=40, help="Å from an atom to its images in the supercell, at least.")
    ] = SUPERCELL,
    as_given: Annotated[bool, typer.Option("--as-given", help="Do not relax first.")] = False,
    bands: Annotated[Path | None, typer.Option("--bands", help="FOLDER for a picture of each band structure.")] = None,
    fmax: FmaxOption = FMAX,
    max_steps: StepsOption = MAX_STEPS,
) -> None:
    """Phonons of crystals: imaginary modes, dynamic stability, heat capacity. Interrupted, it goes on when called
    again. Needs the extra `phonons`."""
    from pipelines.beam.environment import prepare

    prepare(verbose=False)
    import shutil

    from dft.tables import DONE
    from gnome_core.potentials.config import RelaxConfig
    from gnome_core.potentials.force_constants import require_phonopy
    from pipelines.cli.outputs import check_output, writing
    from pipelines.cli.relax_text import evaluator_named, read_crystals, tell_failures, write_relaxed
    from pipelines.cli.terminal import progress_bar
    from pipelines.evaluation.phonons import Pictures, primitive_cells, relaxed_cells
    from pipelines.evaluation.phonons import phonons as phonons_of
    from pipelines.evaluation.relaxing import KeptBatches

    require_phonopy()
    check_output(output, (".parquet", ".csv"))
    check_output(bands, folder=True)
    engine = evaluator_named(evaluator, RelaxConfig(fmax=fmax, max_steps=max_steps), as_given)
    ids, crystals = read_crystals(source)
    kept = KeptBatches(output.with_name(f".{output.name}.parts"))
    with progress_bar("evaluating" if as_given else "relaxing", len(crystals), "crystals") as advance:
        results = relaxed_cells(engine, primitive_cells(crystals), kept, advance)
    pictures = Pictures.of(bands, ids) if bands else None
    with progress_bar("phonons", len(crystals), "crystals") as advance:
        table = phonons_of(engine, ids, results, supercell, tolerance, kept, pictures, advance)
    with writing(output):
        write_relaxed(table, output)
    if kept.folder:
        shutil.rmtree(kept.folder, ignore_errors=True)
    done = sum(status == DONE for status in table["status"].to_pylist())
    stable = sum(filter(None, table["dynamically_stable"].to_pylist()))
    typer.echo(
        f"{output}: {stable} of {done} crystals dynamically stable (no mode below -{tolerance:g} THz) by {evaluator}, "
        f"{len(table) - done} without an answer"
    )
    tell_failures(table, "no phonons")
