"""What a stage is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.rounds.config import RoundConfig
from pipelines.store.records import Attempt, Commit
from pipelines.store.store import Store


@dataclass(frozen=True)
class Job:
    """All that a stage's `run(job) -> Manifest` is given. It reads `inputs` and writes only below `attempt.path`."""

    store: Store
    round: int
    config: RoundConfig
    inputs: Mapping[str, Commit]  # "r0000/hull" -> commit
    attempt: Attempt
    flags: Sequence[str]  # Beam options
    run_jobs: bool = True  # whether first-principles jobs that wait are run here and now

    def input(self, stage: str) -> Commit:
        """The newest input commit of that stage."""
        return self.all_inputs(stage)[-1]

    def all_inputs(self, stage: str) -> list[Commit]:
        """Input commits of that stage, by round."""
        return sorted((c for c in self.inputs.values() if c.stage == stage), key=lambda c: c.round)
