"""What the commands of `gnome dft` do: between a store's settings and its jobs, in folders or in a bucket."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dft.config import DftConfig
from dft.engines import make_engine
from dft.jobs.engine import EngineMissing
from dft.jobs.folders import ENDED, UNREADABLE, JobFolders, State
from dft.jobs.preflight import preflight
from dft.jobs.survey import JobLine, counts, job_line, retry
from dft.names import ENGINES
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.files import write_file
from gnome_core.spreadsheets import marked
from pipelines.cli.options import Queue
from pipelines.errors import UserError
from pipelines.evaluation.emitted_jobs import EmittedFolder
from pipelines.evaluation.taken_jobs import TakenFolder, given_away, open_again, run_from_bucket
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.reading.engine_jobs import EngineJobs, JobsInFolders
from pipelines.store.store import Store


def engines_of(store: str, config: Path | None) -> list[tuple[str, EngineJobs, DftConfig]]:
    """(engine, its jobs, settings) of a store, or of a folder of unpacked jobs.

    Settings: those of `config`, else of the store's newest round, else the defaults. Raises UserError where there are
    no jobs.
    """
    from pipelines.rounds.config import load_config, load_round_config

    opened, root = Store(store), Path(store)
    rounds = opened.rounds() if opened.in_bucket or root.is_dir() else []
    elsewhere = not (rounds or opened.in_bucket)
    taken = TakenFolder.open(root) if elsewhere else None
    emitted = EmittedFolder.open(root) if elsewhere else None
    if config:
        given = load_config(str(config)).dft
        dft = emitted.at_site(given) if emitted else given
    elif emitted:
        dft = emitted.dft
    else:
        dft = load_round_config(opened, rounds[-1]).dft if rounds else taken.dft if taken else DftConfig()
    jobs: list[tuple[str, EngineJobs]]
    if opened.in_bucket:
        jobs = [(name, BucketJobs(opened, name)) for name in ENGINES]
    elif rounds:
        jobs = [(name, JobsInFolders(JobFolders(root.absolute() / "jobs" / name))) for name in ENGINES]
    else:
        folders = JobFolders(root.absolute())
        jobs = [(name, JobsInFolders(folders)) for name in _evaluator_of(folders)]
    found = [(name, one, dft) for name, one in jobs if one.ids()]
    if not found:
        raise UserError(
            f"{store} has no first-principles jobs; `gnome round propose {store} --evaluator espresso` emits some"
        )
    return found


def lines_of(jobs: EngineJobs, ids: Sequence[str] | None = None) -> list[JobLine]:
    """A line for each job, or for those given, as they stand now."""
    jobs.refresh()
    return [jobs.line(id_) for id_ in (jobs.ids() if ids is None else ids)]


def _evaluator_of(folders: JobFolders) -> list[str]:
    broken = ""
    for id_ in folders.ids():
        try:
            return [folders[id_].job.evaluator]
        except UNREADABLE as error:
            broken = broken or f"{folders[id_].folder} is no job folder ({error})"
    if broken:
        raise UserError(broken)
    return []


def protocol_text(name: str | None) -> str:
    """Steps and hashes of all protocols, or one of them with its inputs for rock salt."""
    from dft.config import EspressoConfig
    from dft.espresso.inputs import protocol_hash as espresso_hash
    from dft.espresso.inputs import pw_input
    from dft.protocol import ESPRESSO_STEPS, NEWER_FAMILY, NEWER_POTENTIALS, PANEL, PINNED, VASP_PROTOCOLS
    from dft.vasp.inputs import protocol_hash, step_files
    from gnome_core.crystals.convert import to_structure

    if name is not None and name not in PINNED:
        raise UserError(f"no protocol {name!r}; there is: {', '.join(PINNED)}")
    lines = []
    for one in [name] if name else PINNED:
        now = espresso_hash(EspressoConfig()) if one == "espresso" else protocol_hash(VASP_PROTOCOLS[one])
        pinned = "as pinned" if now == PINNED[one] else f"NOT as pinned ({PINNED[one]}): a library changed the inputs"
        lines.append(f"{one}: inputs {now}, {pinned}")
        if one == "espresso":
            for step in ESPRESSO_STEPS:
                lines.append(f"  {step}: {'scf' if step == 'static' else 'vc-relax'}")
                text = pw_input(PANEL[0], step, EspressoConfig(), "PSEUDOPOTENTIALS", {}).decode()
                lines += [f"    {line}" for line in text.splitlines() if line.strip()] if name else []
            continue
        for step in VASP_PROTOCOLS[one]:
            settings = ", ".join(f"{key} = {value}" for key, value in step.settings.items())
            reads = f", from the {' and '.join(step.copies)} of the step before" if step.copies else ""
            lines.append(f"  {step.name}: {step.input_set}{settings and f' ({settings})'}{reads}")
            files = step_files(step, to_structure(PANEL[0])) if name else {}
            for file in ("INCAR", "KPOINTS"):
                text = files.get(file, b"").decode().splitlines()
                lines += [f"    {line}" for line in (text if file == "INCAR" else text[:4])]
        lines.append(f"  {', '.join(NEWER_POTENTIALS)} in the newer files of {NEWER_FAMILY}")
    return "\n".join(lines)


def preflight_text(evaluator: str, jobs: EngineJobs, dft: DftConfig) -> str:
    """Whether the jobs that have not ended can run here."""
    engine = make_engine(evaluator, dft)
    try:
        engine.check()
        program = f"{evaluator}: the program is there"
    except EngineMissing as error:
        program = f"{evaluator}: {error}"
    if isinstance(jobs, JobsInFolders):
        jobs.folders.unpack()
    lines = lines_of(jobs)
    elements = {symbol for line in lines for symbol in re.findall("[A-Z][a-z]?", line.formula)}
    messages = preflight(engine, [NUMBERS[element] for element in elements]).messages()
    return "\n".join([program, *messages, f"{len(elements)} elements in {len(lines)} jobs, {len(messages)} problems"])


def run_and_follow(
    evaluator: str, jobs: EngineJobs, dft: DftConfig, ids: Sequence[str] | None, submitted: bool
) -> None:
    """Run what waits, with a line for every job that ends and a last line with the counts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from dft.workers import Begun, Ended, run_jobs
    from pipelines.cli.terminal import Terminal

    if isinstance(jobs, JobsInFolders):
        jobs.folders.unpack()
    console = Terminal(stderr=True)
    wanted = (State.EMITTED, State.STALE, *([State.SUBMITTED] if submitted else []))
    asked = lines_of(jobs, ids)
    formulas = {line.id: line.formula for line in asked}
    waiting = [line.id for line in asked if line.state in wanted]
    if isinstance(jobs, JobsInFolders):
        if not submitted:  # what starts in a queue was asked for when it was submitted, and may reach no bucket
            waiting = still_ours(jobs.folders, waiting, console.print)
        events = run_jobs(jobs.folders.root, evaluator, dft, waiting, submitted=submitted) if waiting else ()
    else:
        assert isinstance(jobs, BucketJobs)
        events = run_from_bucket(jobs.store, evaluator, dft, ids)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    running: dict[str, str] = {}
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(evaluator, total=len(waiting))
            for event in events:
                if isinstance(event, Begun):
                    running[event.job] = formulas[event.job]
                elif isinstance(event, Ended):
                    formula = running.pop(event.job, "?")
                    why = f"  {event.reason}: {event.message}" if event.reason else ""
                    line = f"{event.job[:12]}  {formula:12} {event.state:10} {event.seconds:8.1f} s{why}"
                    console.print(line, highlight=False, soft_wrap=True)
                    bar.advance(task)
                else:
                    console.print(f"a worker ended with code {event.code}; see {event.log}", highlight=False)
                bar.update(task, description=f"{evaluator} {', '.join(running.values())}")
    except EngineMissing as error:
        raise UserError(f"{error}; the jobs wait in {jobs.place}") from None
    lines = lines_of(jobs, ids)
    console.print(
        ", ".join(f"{n} {state}{reason and f' ({reason})'}" for state, reason, n in counts(lines)), highlight=False
    )


def still_ours(folders: JobFolders, ids: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Those of the jobs that were not opened for others since they were taken out of a bucket; says which were.

    Where the store cannot be asked, which is said, all of them.
    """
    here = TakenFolder.open(folders.root)
    if here is None or not ids:
        return list(ids)
    try:
        others = given_away(here, ids)
    except Exception as error:  # whatever stands between here and the bucket
        say(f"{here.store} does not say whose the jobs are by now ({error}); they are taken for this folder's")
        return list(ids)
    for id_, whose in others.items():
        say(f"{id_[:12]} was opened for others and is {whose}; `gnome dft take {here.store} {folders.root}` asks again")
    return [id_ for id_ in ids if id_ not in others]


def in_folders(store: str, jobs: EngineJobs) -> JobFolders:
    """Raises UserError for those in a bucket."""
    if not isinstance(jobs, JobsInFolders):
        raise UserError(f"{store} is in a bucket; `gnome dft take {store} FOLDER` brings jobs to where a queue is")
    return jobs.folders


def submit_jobs(
    to: Queue,
    store: str,
    evaluator: str,
    jobs: EngineJobs,
    dft: DftConfig,
    ids: Sequence[str] | None,
    config: Path | None,
    **options: Any,
) -> str:
    """Hand what waits to a queue and say what was done."""
    from dft.jobs.slurm import submit_slurm
    from dft.vasp.jobflow import submit_flows
    from pipelines.cli.terminal import Terminal

    folders = in_folders(store, jobs)
    folders.unpack()
    asked = folders.ids() if ids is None else list(ids)
    waiting = [id_ for id_ in asked if folders[id_].state in (State.EMITTED, State.STALE)]
    waiting = still_ours(folders, waiting, Terminal(stderr=True).print)
    if not waiting:
        return f"no {evaluator} job waits; `gnome dft retry` asks for those that failed again"
    if to == "slurm":
        header, tasks, dry = options["header"], options["tasks"], options["dry_run"]
        command = ["dft", "run", os.path.abspath(store), "--submitted"]
        command += ["--config", os.path.abspath(config)] if config else []
        return submit_slurm(folders, waiting, command, tasks, header.read_text() if header else "", dry)
    return submit_flows(folders, waiting, evaluator, dft, options["project"], options["worker"])


def status_table(evaluator: str, place: str, lines: Sequence[JobLine]):
    from rich.table import Table

    table = Table(title=f"{len(lines)} {evaluator} jobs in {place}")
    table.add_column("state")
    table.add_column("reason")
    table.add_column("jobs", justify="right")
    for state, reason, n in counts(lines):
        table.add_row(state, reason, str(n))
    return table


def job_text(folders: JobFolders, id_: str) -> str:
    folder = folders[id_]
    line = job_line(folder)
    text = [f"{id_}  {line.formula}  {line.state}", f"folder {folder.folder}"]
    for attempt in folder.attempts:
        claim, ending = attempt.claim, attempt.ending
        who = f" by {claim['host']}, process {claim['pid']}" if claim else ""
        text.append(f"attempt {attempt.number}: {attempt.state}{who}")
        if attempt.request and attempt.request["queue"]:
            text.append(f"  submitted to {', '.join(f'{k} {v}' for k, v in attempt.request['queue'].items())}")
        if ending:
            energy = "" if ending.energy_per_atom is None else f", {ending.energy_per_atom:.6f} eV/atom uncorrected"
            text.append(f"  {ending.seconds:.1f} s{energy}")
            text += [f"  {ending.reason}: {ending.message}"] if ending.reason else []
            text += [f"  {step}: {folder.folder / path}" for step, path in ending.steps.items()]
    return "\n".join(text)


def retry_jobs(jobs: EngineJobs, ids: Sequence[str] | None, reason: str | None) -> str:
    """Ask for another attempt at the given jobs, or at all that failed (for a reason)."""
    if ids is None:
        failed = [line for line in lines_of(jobs) if line.state is State.FAILED]
        ids = [line.id for line in failed if reason in (None, line.reason)]
    if isinstance(jobs, JobsInFolders):
        asked = retry(jobs.folders, ids)
    else:
        assert isinstance(jobs, BucketJobs)
        wanted = set(ids)
        asked = open_again(jobs, lambda id_, standing: id_ in wanted and standing.state in ENDED)
    return f"{len(asked)} of {len(ids)} jobs will be tried again by `gnome dft run`"


def report_table(evaluator: str, lines: Sequence[JobLine]):
    """Every job with the machine time it took, as a rich table."""
    from rich.table import Table

    ended = [line for line in lines if line.state in ENDED]
    hours = sum(line.seconds for line in lines) / 3600
    table = Table(title=f"{evaluator}: {len(ended)} of {len(lines)} jobs ended, {hours:.2f} h of wall time")
    for column in ("job", "formula", "state", "reason", "attempts", "seconds", "eV/atom"):
        table.add_column(column)
    for line in lines:
        energy = "" if line.energy_per_atom is None else f"{line.energy_per_atom:.4f}"
        seconds = f"{line.seconds:.1f}"
        table.add_row(line.id[:12], line.formula, line.state, line.reason, str(line.attempts), seconds, energy)
    return table


def write_report(output: Path, jobs: Sequence[tuple[str, Sequence[JobLine]]]) -> int:
    """All jobs as CSV; returns how many."""
    fields = list(JobLine.__dataclass_fields__)
    rows = [(evaluator, line) for evaluator, lines in jobs for line in lines]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["evaluator", *fields])
    for evaluator, line in rows:
        cells = [evaluator, *(getattr(line, name) for name in fields)]
        writer.writerow([marked(cell) if isinstance(cell, str) else cell for cell in cells])
    write_file(output, text.getvalue().encode())
    return len(rows)


def chosen(jobs: EngineJobs, starts: Sequence[str], missing_ok: bool = False) -> list[str]:
    """Ids that begin with one of `starts`. Raises UserError where none begins with one of them."""
    ids, found = jobs.ids(), []
    for start in starts:
        matching = [id_ for id_ in ids if id_.startswith(start)]
        if not matching and not missing_ok:
            raise UserError(f"no job in {jobs.place} starts with {start!r}; `gnome dft report` lists them")
        found += matching
    return sorted(set(found))
