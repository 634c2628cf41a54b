"""Where each stage of a round stands, whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines.beam.progress import Progress
from pipelines.rounds.gc import begun
from pipelines.rounds.plan import stages_of
from pipelines.store.records import Attempt, Commit, stage_path
from pipelines.store.store import Store


@dataclass(frozen=True)
class Standing:
    """One stage: committed, or begun by the newest of its attempts so many seconds ago, or (attempts 0) to run."""

    stage: str
    commit: Commit | None
    attempts: int
    seconds: float  # of the commit, or since the newest attempt began
    written: int  # bytes
    progress: Progress | None = None  # as its driver last said, of a stage that is not committed


def standings(store: Store, round_: int) -> list[Standing]:
    """The round's stages in their order."""
    return [_standing(store, round_, stage) for stage in stages_of(round_)]


def _standing(store: Store, round_: int, stage: str) -> Standing:
    commit = store.commit(round_, stage)
    if commit is not None:
        return Standing(stage, commit, 1, commit.seconds, sum(stat.bytes for stat in commit.files))
    attempts = store.storage.children(f"{stage_path(round_, stage)}/attempts")
    if not attempts:
        return Standing(stage, None, 0, 0.0, 0)
    attempt = Attempt(round_, stage, attempts[-1])
    age = (datetime.now(UTC) - begun(attempt)).total_seconds()
    written, said = sum(store.storage.files(attempt.path).values()), store.progress(attempt)
    return Standing(stage, None, len(attempts), age, written, Progress(**said) if said else None)
