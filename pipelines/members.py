"""Trained members in the store: where a commit keeps their files."""

from __future__ import annotations

from pathlib import Path

from gnome_core.models.pretrained import Framework
from pipelines.store import Commit, Store, table_files


def weights_of(framework: Framework) -> str:
    """Table of a framework's blobs: member-000.npz and member-000.json, ..."""
    return f"{framework}_weights"


def member_paths(store: Store, train: Commit, framework: Framework = "structural") -> list[str]:
    """Local paths of the members' .npz files in member order, none where it trained none; each is verified first."""
    files = table_files(train, weights_of(framework))
    for stat in files:
        store.read_file(stat)
    return [str(Path(store.storage.local_path("."), stat.path)) for stat in files if stat.path.endswith(".npz")]
