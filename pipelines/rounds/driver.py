"""The driver: runs the stages of a round in order, each in an attempt of its own that only its commit makes exist."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from gnome_core.potentials.default import BEFORE, DEFAULT
from pipelines.beam.progress import kept
from pipelines.beam.runners import Launched, runner_flags
from pipelines.errors import StoreError, UserError
from pipelines.logs import FIELDS
from pipelines.rounds.config import RoundConfig, load_round_config, settled
from pipelines.rounds.job import Job
from pipelines.rounds.plan import inputs_of, stages_of
from pipelines.rounds.preflight import check_round
from pipelines.store.digests import json_digest
from pipelines.store.records import Attempt, Commit, Counts, JobFile, stage_key, table_digests
from pipelines.store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    round: int
    stage: str


@dataclass(frozen=True)
class Finished:
    commit: Commit
    reused: bool  # it was committed before


Event = Started | Finished


def run_stages(
    store: Store, round_: int, stages: Sequence[str], flags: Sequence[str] = (), *, run_jobs: bool = True
) -> Iterator[Event]:
    """Run or skip the stages of a started round, in order; the round closes once all its stages are committed.

    run_jobs: whether stages that need first-principles results run the jobs that wait, or take what is there.
    Raises UserError for a missing earlier stage or too many dead letters, StoreError for data that cannot be trusted.
    """
    config = load_round_config(store, round_)
    flags = runner_flags(flags)
    for stage in stages:
        log.info("started", extra={FIELDS: {"stage": stage_key(round_, stage)}})
        yield Started(round_, stage)
        finished = _run_stage(store, round_, stage, config, flags, run_jobs)
        log.info("kept" if finished.reused else "committed", extra={FIELDS: _log_fields(finished.commit)})
        yield finished
    commits = [store.commit(round_, stage) for stage in stages_of(round_)]
    if all(commits):
        store.close_round(round_, [commit for commit in commits if commit])


def _log_fields(commit: Commit) -> dict[str, object]:
    """What a log says of a committed stage; settings and options stay out of it."""
    return {
        "stage": commit.key,
        "attempt": commit.attempt,
        "digest": commit.digest,
        "seconds": commit.seconds,
        "bytes": sum(stat.bytes for stat in commit.files),
        **commit.counts.model_dump(by_alias=True),
        "metrics": commit.metrics,
    }


def _run_stage(
    store: Store, round_: int, stage: str, config: RoundConfig, flags: list[str], run_jobs: bool
) -> Finished:
    inputs, job_file = _job_file(store, round_, stage)
    committed = store.commit(round_, stage)
    if committed:
        if (committed.inputs, committed.config) != (job_file.inputs, job_file.config):
            raise StoreError(f"{committed.key} was made from other inputs than the store now holds; restore the store")
        return Finished(committed, reused=True)

    # Files from elsewhere may be as broken as they are.
    reads_files = stage in ("snapshot", "evaluate") or (stage == "generate" and config.generation.files)
    limit = 1.0 if reads_files else config.max_dead_fraction
    done = store.finished_attempt(round_, stage, job_file)
    if done is None or done[1].counts.n_dead > limit * done[1].counts.n_in:
        attempt = store.launched_attempt(round_, stage, job_file) or store.new_attempt(round_, stage, job_file)
        _crash_point(stage, "before_write")
        start = time.monotonic()
        with kept(lambda so_far: store.keep_progress(attempt, so_far._asdict())):
            manifest = _module(stage).run(Job(store, round_, config, inputs, attempt, flags, run_jobs))
        seconds = round(time.monotonic() - start, 2)
        _crash_point(stage, "after_write")
        manifest.counts.check(attempt.path)  # what fails is not finished: else each resume would take it up again
        _check_dead(store, attempt, manifest.counts, limit)
        store.finish_attempt(attempt, manifest, seconds)
        _crash_point(stage, "after_job")
    else:
        attempt, manifest, seconds = done
    commit = Commit(
        **dict(job_file),
        round=round_,
        attempt=attempt.id,
        files=manifest.files,
        rows_digests=table_digests(manifest.files),
        counts=manifest.counts,
        seconds=seconds,
        metrics=manifest.metrics,
    )
    winner = store.publish(commit)
    _crash_point(stage, "after_commit")
    return Finished(winner, reused=False)


def launch_stage(store: Store, round_: int, stage: str, flags: Sequence[str]) -> Attempt:
    """Hand one stage to a runner that goes on without this process (a Flex Template's launcher), committing first what
    such jobs have finished of the stages before it.

    Raises UserError where one of those has not ended, or the stage is committed.
    """
    config, flags = load_round_config(store, round_), runner_flags(flags)
    if stage not in stages_of(round_):
        raise UserError(f"round {round_} has no stage {stage}; it has {', '.join(stages_of(round_))}")
    if store.commit(round_, stage):
        raise UserError(f"{stage_key(round_, stage)} is committed already")
    for earlier in stages_of(round_)[: stages_of(round_).index(stage)]:
        if not store.commit(round_, earlier):
            if not store.launched_attempt(round_, earlier, _job_file(store, round_, earlier)[1]):
                raise UserError(
                    f"{stage_key(round_, earlier)} comes before {stage} and has not ended; wait for its job"
                )
            _run_stage(store, round_, earlier, config, flags, run_jobs=False)
    inputs, job_file = _job_file(store, round_, stage)
    attempt = store.new_attempt(round_, stage, job_file)
    store.mark_launched(attempt)
    try:
        _module(stage).run(Job(store, round_, config, inputs, attempt, flags, run_jobs=False))
    except Launched:
        return attempt
    raise UserError(f"{stage_key(round_, stage)} was run, not launched; only a template's launcher may do this")


def _module(stage: str):
    return importlib.import_module(f"pipelines.stages.{stage}")


def _job_file(store: Store, round_: int, stage: str) -> tuple[dict[str, Commit], JobFile]:
    inputs = _read_inputs(store, round_, stage)
    digests = {key: commit.digest for key, commit in inputs.items()}
    digest = json_digest(store.round_config(round_))  # of the keys that it was started with: later versions have more
    return inputs, JobFile(stage=stage, inputs=digests, config=digest, code=metadata.version("gnome-flywheel"))


def _read_inputs(store: Store, round_: int, stage: str) -> dict[str, Commit]:
    inputs = {}
    for key in inputs_of(round_, stage):
        commit = store.commit(*key)
        if commit is None:
            raise UserError(f"{stage_key(round_, stage)} needs {stage_key(*key)}, which is not committed; run it first")
        inputs[commit.key] = commit
    return inputs


def _check_dead(store: Store, attempt: Attempt, counts: Counts, limit: float) -> None:
    if counts.n_dead > limit * counts.n_in:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.dead.items()))
        raise UserError(
            f"{stage_key(attempt.round, attempt.stage)}: {counts.n_dead} of {counts.n_in} rows died ({reasons}), more "
            f"than max_dead_fraction = {limit}; the rows are in {store.root}/{attempt.path}/dead. `gnome round drop "
            f"{store.root}` gives the round up, so that it can start with other settings"
        )


def _crash_point(stage: str, point: str) -> None:
    """Die here as by power cut if GNOME_CRASH_AT says so: the crash tests' only hook."""
    if os.environ.get("GNOME_CRASH_AT") == f"{stage}:{point}":
        os.kill(os.getpid(), signal.SIGKILL)


# Which round comes next


def open_round(store: Store) -> int | None:
    """The round that was started and is not closed."""
    newest = store.rounds()[-1]
    return None if store.is_closed(newest) else newest


def embedded_after(last: RoundConfig) -> str:
    """What `embedded` stands for in a store whose last round has these settings: it goes on with what it began with."""
    own = last.evaluation.evaluator
    return own if own in (DEFAULT, BEFORE) else DEFAULT


def start_round(store: Store, config: RoundConfig | None) -> int:
    """Start the next round with `config`, or with the last round's settings. One round is open at a time.

    Raises UserError for settings with which it could not be finished; nothing is started then.
    """
    newest = store.rounds()[-1]
    if not store.is_closed(newest):
        raise UserError(f"round {newest} is not finished; `gnome round resume {store.root}` finishes it")
    last = load_round_config(store, newest)
    config = settled(config or last, embedded_after(last))
    check_round(store, newest + 1, config)
    store.start_round(newest + 1, config.document())
    return newest + 1


def open_or_start_round(store: Store, config: RoundConfig | None) -> int:
    """The open round, or else the next one, started with `config` or with the last round's settings.

    Raises UserError where the open round was started with other settings than `config`: they stay what they are.
    """
    round_ = open_round(store)
    if round_ is None:
        return start_round(store, config)
    if config is None:
        return round_
    own = load_round_config(store, round_)
    if settled(config, embedded_after(own)) != own:
        raise UserError(
            f"round {round_} is open, with other settings; `gnome round resume {store.root}` finishes it with its own, "
            f"`gnome round drop {store.root}` gives it up"
        )
    return round_


def init_store(root: str, config: RoundConfig) -> Store:
    """Make a store whose round 0 is yet to run; one that holds nothing committed is begun again with these settings.

    Raises UserError if there is one, or for settings that cannot run, SourceError for a wrong snapshot.
    """
    from gnome_core.crystals.readers import read_snapshot

    store = Store(root)
    if store.rounds() and store.is_closed(0):
        raise UserError(f"{root} is a store already; `gnome round run {root}` runs its next round")
    config = settled(config)
    check_round(store, 0, config)
    for source in config.snapshots:
        next(read_snapshot(source), None)  # a wrong one must not leave half a store behind
    if store.rounds() and not any(store.commit(0, stage) for stage in stages_of(0)):
        store.restart_round(0, config.document())
    store.start_round(0, config.document())
    return store
