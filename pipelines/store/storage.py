"""Where a store's bytes live. The store speaks only to `Storage`: a folder here, or a bucket (`bucket.py`)."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import google_crc32c

from gnome_core import files

READ_BYTES = 1 << 20


class Storage(Protocol):
    """Whole objects under store-relative POSIX paths. Instances are small and picklable: workers get copies."""

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write or replace; readers see the old or the new bytes, never a part."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write unless the path exists; False if it does. Of several racing writers one gets True."""
        ...

    def exists(self, path: str) -> bool: ...

    def children(self, path: str) -> list[str]:
        """Sorted names directly below `path`; empty where there is nothing."""
        ...

    def files(self, path: str) -> dict[str, int]:
        """Bytes of every file below `path`, by store-relative path."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        ...

    def checksum(self, path: str) -> tuple[int, str]:
        """(bytes, CRC32C as 8 hex characters) of what is stored. Raises FileNotFoundError."""
        ...

    def version(self, path: str) -> Hashable:
        """Another one when the file was replaced or changed, told without reading it. Raises FileNotFoundError."""
        ...

    def address(self, path: str) -> str:
        """What `local_file` finds `path` by, on any machine that reaches the store."""
        ...

    def fetch(self, path: str) -> str:
        """A file on this machine with the bytes of `path`, which must never change (to map it, or read it by name)."""
        ...

    def local_path(self, path: str) -> str | None:
        """The folder `path` where programs can work, made if needed; None if the store is in no file system."""
        ...


@dataclass(frozen=True)
class LocalFolder:
    """A folder on a POSIX file system with hard links."""

    root: str

    def _path(self, path: str) -> Path:
        return Path(self.root, path)

    def read(self, path: str) -> bytes:
        return self._path(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        target = self._path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(target, data)

    def create(self, path: str, data: bytes) -> bool:
        target = self._path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return files.create_file(target, data)

    def exists(self, path: str) -> bool:
        return self._path(path).exists()

    def children(self, path: str) -> list[str]:
        folder = self._path(path)
        return sorted(child.name for child in folder.iterdir()) if folder.is_dir() else []

    def files(self, path: str) -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self._path(path)):
            for file in (Path(folder, name) for name in names):
                found[file.relative_to(self.root).as_posix()] = file.lstat().st_size
        return dict(sorted(found.items()))

    def delete(self, path: str) -> None:
        file = self._path(path)
        file.unlink(missing_ok=True)
        for folder in file.parents:  # folders are nothing of their own
            if folder == Path(self.root):
                break
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # it holds something
                break

    def checksum(self, path: str) -> tuple[int, str]:
        crc = google_crc32c.Checksum()
        with open(self._path(path), "rb") as file:
            for _ in crc.consume(file, READ_BYTES):
                pass
            return file.tell(), crc.digest().hex()

    def version(self, path: str) -> Hashable:
        found = self._path(path).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def address(self, path: str) -> str:
        return str(self._path(path))

    def fetch(self, path: str) -> str:
        return self.address(path)

    def local_path(self, path: str) -> str:
        folder = self._path(path)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder.resolve())


def is_local(address: str) -> bool:
    """Whether it is a path on this machine rather than in a bucket."""
    return "://" not in address


def storage_for(root: str) -> Storage:
    """The storage of a store's address: a local folder, or gs://BUCKET/PATH. Raises UserError for another."""
    if not is_local(root):
        from pipelines.store.bucket import Bucket

        return Bucket.at(root)
    return LocalFolder(str(Path(root).absolute()))


def local_file(address: str) -> str:
    """A file on this machine for an address that a storage gave: the file itself, or a bucket's copy in the cache."""
    if is_local(address):
        return address
    folder, _, name = address.rpartition("/")
    return storage_for(folder).fetch(name)
