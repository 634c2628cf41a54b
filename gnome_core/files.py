"""Files are written whole or not at all: beside their place, to the disk, then renamed. Whatever goes wrong meanwhile,
a full disk or a power cut too, leaves the old file."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import stat
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gnome_core.errors import GnomeError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class NoHardLinks(GnomeError):
    """A file system on which nothing can be created once and for all."""


@contextmanager
def replacing(path: str | Path, *, durable: bool = True) -> Generator[BinaryIO]:
    """A file to write to, which takes the place of `path` once the block has ended without an error.

    A link leads to the file that is replaced; pipes and devices (/dev/stdout) get the bytes at the end of the block.
    durable: see that the bytes outlive a power cut; without it `sync_file_system` does, for many files at once.
    Raises OSError, which names `path`.
    """
    path = Path(path)
    try:
        if is_stream(path):
            content = io.BytesIO()
            yield content
            with open(path, "wb") as stream:
                stream.write(content.getbuffer())
        else:
            target = Path(os.path.realpath(path))
            temporary = target.parent / f".{uuid.uuid4().hex}.tmp"
            try:
                with open(temporary, "xb") as file:
                    yield file
                    _finish(file, durable)
                _keep_mode(target, temporary)
                os.replace(temporary, target)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            if durable:
                _sync_folder(target.parent)
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(".tmp"):
            error.filename, error.filename2 = str(path), None
        raise


def write_file(path: str | Path, data: bytes, *, durable: bool = True) -> None:
    """Make or replace a file; its folder must be there. As `replacing`."""
    with replacing(path, durable=durable) as file:
        file.write(data)


def create_file(path: str | Path, data: bytes) -> bool:
    """Make the file unless it exists; of several racing writers one gets True. Raises OSError, NoHardLinks."""
    path = Path(path)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            _finish(file, durable=True)
        os.link(temporary, path)  # unlike rename, fails where the target exists
    except FileExistsError:
        return False
    except OSError as error:
        if error.filename2 is not None and error.errno in _NO_LINKS:
            raise NoHardLinks(
                f"{path}: this file system has no hard links ({error.strerror}), which keep two writers apart; use "
                "a folder on another one"
            ) from None
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _sync_folder(path.parent)
    return True


def write_all(path: str | Path, data: bytes) -> None:
    """Make a file with all of the bytes, in few system calls: for folders that are synced and then renamed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        left = memoryview(data)
        while left:  # a nearly full disk takes a part, and says so with the next one only
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def sync_file_system(folder: str | Path) -> None:
    """See that all that was written to the folder's file system outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs"):  # not Linux
            os.sync()
        elif libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def is_stream(path: Path) -> bool:
    """Whether what is written there goes to a program or device: there is nothing to be replaced."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        return True
    match path.absolute().parts[1:]:
        case ["dev", name, *_]:
            return name != "shm"
        case ["proc", *_]:
            return True
    return False


def is_temporary(name: str) -> bool:
    """Whether a file of that name is what a writer that was killed has left."""
    return name.startswith(".") and name.endswith(".tmp")


def _finish(file: BinaryIO, durable: bool) -> None:
    file.flush()
    if durable:
        os.fsync(file.fileno())


def _keep_mode(target: Path, temporary: Path) -> None:
    with suppress(FileNotFoundError):
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
