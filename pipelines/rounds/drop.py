"""Giving up a round that has not closed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.errors import UserError
from pipelines.rounds.plan import stages_of
from pipelines.store.records import Commit, stage_path
from pipelines.store.store import Store


@dataclass(frozen=True)
class Going:
    """What a drop removes. files: bytes by store-relative path."""

    round: int
    commits: tuple[Commit, ...]
    files: dict[str, int]

    def lines(self) -> Iterator[str]:
        """What goes, for people."""
        for commit in self.commits:
            yield f"{commit.key:16} {commit.counts.n_out} rows, {commit.seconds:.1f} s of work"
        yield f"round {self.round}: {len(self.files)} files, {sum(self.files.values()):,} bytes"


def would_go(store: Store) -> Going:
    """What the open round holds. Raises UserError where none is open."""
    round_ = store.rounds()[-1]
    if store.is_closed(round_):
        raise UserError(f"no round of {store.root} is open: round {round_} is closed, and what is closed stays")
    commits = (store.commit(round_, stage) for stage in stages_of(round_))
    files = store.storage.files(f"rounds/r{round_:04d}")
    return Going(round_, tuple(commit for commit in commits if commit), files)


def drop_round(store: Store, round_: int) -> None:
    """Remove an open round's files. Whoever kills this leaves an open round of fewer stages, to be dropped again."""
    folder = f"rounds/r{round_:04d}"
    for stage in reversed(stages_of(round_)):  # a stage goes before what it was made of
        store.storage.delete(f"{stage_path(round_, stage)}/COMMIT.json")
    config = f"{folder}/config.json"
    for path in store.storage.files(folder):
        if path != config:
            store.storage.delete(path)
    store.storage.delete(config)  # last: without it there is no round
