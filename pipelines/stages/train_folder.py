"""Where members train: in the store's own folder; or, for a bucket, in one here whose checkpoints the bucket keeps."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager

from pipelines.store.storage import Storage


@contextmanager
def training_folder(storage: Storage, path: str, task: str) -> Generator[tuple[str, Callable[[], None]]]:
    """(folder, keep): a folder that holds what an earlier attempt at the task kept; `keep()` keeps what it now holds.

    path: store-relative folder of all tasks' checkpoints. A bucket gets one object a task, replaced as a whole, and
    only if there is a newer checkpoint.
    """
    folder = storage.local_path(path)
    if folder is not None:
        yield folder, lambda: None
        return
    kept = f"{path}/{task}.tar"
    with tempfile.TemporaryDirectory(prefix="gnome-training-") as folder:
        if storage.exists(kept):
            with tarfile.open(fileobj=io.BytesIO(storage.read(kept))) as archive:
                archive.extractall(folder, filter="data")  # refuses paths that lead out of the folder
        seen = _files(folder)

        def keep() -> None:
            nonlocal seen
            if (found := _files(folder)) != seen:
                storage.write(kept, _packed(folder))
                seen = found

        yield folder, keep


def _files(folder: str) -> set[str]:
    return {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}


def _packed(folder: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.add(folder, arcname=".")
    return sink.getvalue()
