"""What `gnome dft aimd` and `collect` do and say: molecular dynamics by first principles, in folders of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dft.config import DftConfig
from pipelines.errors import UserError
from pipelines.store.store import Store


def emit_aimd(
    source: str,
    folder: Path,
    temperature: float | None,
    band_gaps: str | None,
    only: str | None,
    limit: int,
    new: bool,
    config: Path | None,
) -> str:
    """Emit a job for each of a store's candidates, or of the crystals of a file; says how many."""
    from pipelines.potentials.aimd import crystals_of_file, emit
    from pipelines.potentials.superionic_screen import choose
    from pipelines.reading.gaps import read_gaps
    from pipelines.rounds.config import load_config

    dft = load_config(str(config)).dft if config else DftConfig()
    aimd = dft.vasp.aimd if temperature is None else dft.vasp.aimd.model_copy(update={"temperature": temperature})
    dft = dft.model_copy(update={"vasp": dft.vasp.model_copy(update={"protocol": "aimd", "aimd": aimd})})
    if Store(source).rounds():
        chosen = choose(Store.open(source), read_gaps(Path(band_gaps)) if band_gaps else None, new, only, limit)
        crystals, what = chosen.crystals, f"{len(chosen.crystals)} of {chosen.found} candidates"
    else:
        if band_gaps or only or new:
            raise UserError(f"{source} is no store; --band-gaps, --only and --new choose among a store's entries")
        crystals = crystals_of_file(source)
        what = f"{len(crystals)} crystals"
    n_new, n = emit(crystals, folder, dft)
    return f"{what}: {n_new} new jobs at {aimd.temperature:g} K in {folder}, {n - n_new} were there"


def collect_aimd(folder: Path, out: Path, skip: float, flags: Sequence[str]) -> Iterator[str]:
    """Read what has been run, and say what each run says."""
    from rich.console import Console

    from pipelines.beam.environment import set_up
    from pipelines.beam.progress import shown
    from pipelines.beam.runners import runner_flags
    from pipelines.cli.dead import first_dead
    from pipelines.cli.terminal import printable
    from pipelines.potentials.aimd import REFERENCES, collect

    set_up(verbose=False)
    with shown(Console(stderr=True)) as begin:
        begin("collect")
        manifest, runs = collect(folder, out, skip, runner_flags(list(flags)))
    for row in runs.to_pylist():
        sigma = "-" if row["conductivity"] is None else f"{row['conductivity']:.3g} mS/cm"
        yield printable(f"{row['formula']:16} {row['ion']:3} {sigma:>14}  {row['verdict'] or ''}")
    counts = manifest.counts
    left = {**counts.rejected, **counts.dead}
    yield f"{counts.n_out} of {counts.n_in} runs in {out}{''.join(f', {n} {reason}' for reason, n in left.items())}"
    for line in first_dead(Store(str(out)), manifest.files, f"{out}/labels/dead"):
        yield printable(line)
    yield str(out / REFERENCES)
