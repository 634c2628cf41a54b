"""Trained members in the store: where a commit keeps their files."""

from __future__ import annotations

from pathlib import Path

from pipelines.store import Commit, Store, table_files

WEIGHTS = "weights"  # blobs: member-000.npz and member-000.json, ...


def member_paths(store: Store, train: Commit) -> list[str]:
    """Local paths of the members' .npz files in member order; every file is verified first."""
    files = table_files(train, WEIGHTS)
    for stat in files:
        store.read_file(stat)
    return [str(Path(store.storage.local_path("."), stat.path)) for stat in files if stat.path.endswith(".npz")]
