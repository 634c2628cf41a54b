"""Where a store's bytes live. The store speaks only to `Storage`; a bucket is one more class like `LocalFolder`."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.errors import UserError


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

    def local_path(self, path: str) -> str:
        """A folder on this machine for `path`, made if needed (checkpoints and model files are written there)."""
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
        temporary = _write_beside(target, data)
        os.replace(temporary, target)
        _sync_folder(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        target = self._path(path)
        temporary = _write_beside(target, data)
        try:
            os.link(temporary, target)  # unlike rename, fails where the target exists
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        _sync_folder(target.parent)
        return True

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
            if folder == Path(self.root) or next(folder.iterdir(), None) is not None:
                break
            folder.rmdir()

    def local_path(self, path: str) -> str:
        folder = self._path(path)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder.resolve())


def _write_beside(target: Path, data: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_for(root: str) -> Storage:
    """The storage of a store's address; today a local folder."""
    if "://" in root:
        raise UserError(f"{root}: a store must be a local folder in this version")
    return LocalFolder(str(Path(root).absolute()))
