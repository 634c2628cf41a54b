"""Where a command is to write: complaints before the work, and one line for what goes wrong after it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gnome_core.files import is_stream
from pipelines.errors import UserError


def check_output(path: Path | None, endings: Sequence[str] = (), *, folder: bool = False) -> None:
    """Make sure that the file, or the folder, can be written, before work that would be lost; its folder is made.

    endings: those that the file's name may have; all where none is given. Raises UserError.
    """
    if path is None:
        return
    if endings and path.suffix not in endings:
        raise UserError(f"--output {path}: must end in {' or '.join(endings)}")
    str(path).encode()  # as libraries that write do; `main` says what a UnicodeEncodeError means
    with writing(path):
        if not folder and path.is_dir():
            raise UserError(f"{path} is a folder; name a file")
        if folder and path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; name a folder")
        if is_stream(path):
            return
        if not next(folder for folder in path.absolute().parents if folder.exists()).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            path.open("ab").close()  # one that may not be written is not to be replaced
        tempfile.TemporaryFile(dir=path if path.is_dir() else path.resolve().parent).close()


@contextmanager
def writing(path: Path) -> Generator[None]:
    """A UserError for what the file system refuses in the block: no permission, a file in the way, a full disk."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UserError(f"{path} cannot be written: {why}; name another place") from error
