"""What `gnome dft take`, `deliver` and `release` do and say: jobs of stores in buckets, in folders elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dft.jobs.folders import ENDED, State
from pipelines.cli.dft_text import chosen, engines_of, lines_of
from pipelines.errors import UserError
from pipelines.evaluation.taken_jobs import TakenFolder, deliver, give_back, open_again, take
from pipelines.reading.bucket_jobs import BucketJobs
from pipelines.reading.engine_jobs import JobsInFolders
from pipelines.reading.job_ledger import Standing
from pipelines.store.storage import is_local
from pipelines.store.store import Store


def take_jobs(store: str, folder: Path, engine: str | None, limit: int | None) -> str:
    """Take jobs of a store in a bucket into a folder; says how many, and how many are left."""
    if not Store(store).in_bucket:
        raise UserError(f"{store} is in folders: `gnome dft run {store}` runs its jobs where they are")
    found = [(name, jobs, dft) for name, jobs, dft in engines_of(store, None) if engine in (None, name)]
    if len(found) != 1:
        there = " and ".join(name for name, _, _ in found) or f"none of {engine}"
        raise UserError(f"{store} has jobs: {there}; name one engine with --engine")
    ((name, jobs, dft),) = found
    assert isinstance(jobs, BucketJobs)
    new = take(TakenFolder.make(folder, jobs.store, name, dft), limit)
    states = [line.state for line in lines_of(jobs)]
    return f"{len(new)} {name} jobs taken into {folder}; {states.count(State.EMITTED)} of {len(states)} wait for others"


def deliver_jobs(here: TakenFolder) -> str:
    """Deliver what has ended in a folder; says what stays there."""
    done = deliver(here)
    left = [id_ for id_ in here.folders.ids() if here.folders[id_].state not in ENDED]
    text = [f"{len(done.ids)} results delivered to {here.store}; {len(left)} jobs have not ended here"]
    text += [f"{id_[:12]} stays here: {why}" for id_, why in done.refused.items()]
    return "\n".join(text)


def release_jobs(place: str, starts: Sequence[str], holder: str | None) -> str:
    """Open taken jobs again: those of a folder that have not begun, or those that a machine took; says how many."""
    here = TakenFolder.open(Path(place)) if is_local(place) else None
    if here is not None:
        if holder:
            raise UserError("--from goes with the store's address; a folder gives back its own jobs")
        back = give_back(here, chosen(JobsInFolders(here.folders), starts) if starts else None)
        return f"{len(back)} jobs given back to {here.store}"
    if is_local(place):
        raise not_taken(place)
    if not (starts or holder):
        raise UserError(f"name jobs, or a machine with --from; `gnome dft status {place}` says who has taken some")
    n = 0
    for _, jobs, _ in engines_of(place, None):
        assert isinstance(jobs, BucketJobs)
        ids = set(chosen(jobs, starts, missing_ok=True)) if starts else set(jobs.ids())

        def released(id_: str, standing: Standing, ids: set[str] = ids) -> bool:
            by = standing.holder is not None and holder in (None, standing.holder.host, standing.holder.name)
            return standing.state is State.TAKEN and id_ in ids and by

        n += len(open_again(jobs, released))
    return f"{n} jobs wait for others again"


def not_taken(folder: str) -> UserError:
    return UserError(f"no jobs were taken into {folder}; `gnome dft take gs://BUCKET/PATH {folder}` takes some")


def job_in_bucket_text(jobs: BucketJobs, id_: str) -> str:
    line, standing = jobs.line(id_), jobs.standing(id_)
    text = [f"{id_}  {line.formula}  {line.state}", f"shard {jobs.shard(id_)}"]
    if standing.holder:
        text.append(f"{standing.state} by {standing.holder.name} since {standing.since}")
    if delivery := standing.delivery:
        ending = delivery.ending
        energy = "" if ending.energy_per_atom is None else f", {ending.energy_per_atom:.6f} eV/atom uncorrected"
        text.append(f"attempt {delivery.attempt}: {ending.state}, {ending.seconds:.1f} s{energy}")
        text += [f"  {ending.reason}: {ending.message}"] if ending.reason else []
        text += [f"  {step}: {delivery.file.path}:{id_}/{path}" for step, path in ending.steps.items()]
    return "\n".join(text)
