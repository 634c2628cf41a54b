"""The frames of relaxations that a store has committed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from dft.tables import FRAME_SCHEMA
from pipelines.reading.committed import references
from pipelines.store.records import Commit
from pipelines.store.store import Store


def frames_commit(store: Store, round_: int) -> Commit | None:
    """The commit that holds a round's frames: of the snapshot's crystals for round 0; None where there is none yet."""
    return store.commit(round_, "evaluate" if round_ else "snapshot")


def frames_until(store: Store, round_: int) -> pa.Table:
    """FRAME_SCHEMA: the frames of the snapshot's crystals and of rounds 1..round_, those committed, on the store's
    scale."""
    commits = [frames_commit(store, earlier) for earlier in range(round_ + 1)]
    tables = [store.read_table(commit, "frames", FRAME_SCHEMA) for commit in commits if commit]
    frames = pa.concat_tables([FRAME_SCHEMA.empty_table(), *tables])
    # A protocol's first relaxation may be on a scale of its own, which the store has no hull on.
    return frames.filter(pc.equal(frames["scale"], references(store.root).scale)) if len(frames) else frames
