"""Compiled programs on disk, checked before they are used: jax keeps no checksum of its own, and one flipped bit in a
program gives other numbers, or ends the process.

JAX_ENABLE_COMPILATION_CACHE=false keeps none, JAX_COMPILATION_CACHE_DIR says where.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from gnome_core.files import write_file

log = logging.getLogger(__name__)

LIMIT = 256 << 20  # bytes, beyond which those go that were used longest ago
SUFFIX = "-checked"
_DIGEST = 16  # bytes
_MODULE = "jax._src.compilation_cache"


class CheckedPrograms:
    """What jax asks for compiled programs (`jax._src.compilation_cache_interface.CacheInterface`).

    A file is the digest of key and program, then the program. One that is damaged is removed, and so is made anew.
    Processes may share the folder.
    """

    def __init__(self, folder: str, limit: int = LIMIT):
        self._path = Path(folder)  # the name that jax knows it by
        self._limit = limit

    def get(self, key: str) -> bytes | None:
        path = self._file(key)
        with suppress(OSError):
            content = path.read_bytes()
            if content[:_DIGEST] == _digest(key, content[_DIGEST:]):
                os.utime(path)
                return content[_DIGEST:]
            log.warning("%s is damaged and is compiled again", path)
            path.unlink(missing_ok=True)
        return None

    def put(self, key: str, value: bytes) -> None:
        with suppress(OSError):  # no space, no permission: the next process compiles again
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self._file(key), _digest(key, value) + value, durable=False)
            self._make_room()

    def _file(self, key: str) -> Path:
        return self._path / f"{key}{SUFFIX}"

    def _make_room(self) -> None:
        used, total = [], 0
        for path in self._path.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process has removed it
                found = path.stat()
                used.append((found.st_mtime_ns, found.st_size, path))
                total += found.st_size
        for _, size, path in sorted(used):
            if total <= self._limit:
                break
            path.unlink(missing_ok=True)
            total -= size


def check_programs() -> None:
    """Let this process, once it loads jax, keep its programs in `CheckedPrograms`."""
    if _MODULE in sys.modules:
        _install(sys.modules[_MODULE])
    elif not any(isinstance(finder, _WhenLoaded) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenLoaded())


class _WhenLoaded(MetaPathFinder):
    """Waits for jax's module: loading jax takes a second, which most processes would spend for nothing."""

    def find_spec(self, fullname: str, path=None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        loader = spec.loader
        assert loader is not None
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _install(module)

        loader.exec_module = exec_module
        return spec


def _install(module: ModuleType) -> None:
    if hasattr(module, "get_file_cache"):
        module.get_file_cache = lambda path: (CheckedPrograms(path), path)  # ty: ignore[missing-attribute]
    else:  # another jax: better slow than wrong
        log.warning("this version of jax keeps compiled programs in a way we do not know; none are kept")
        sys.modules["jax._src.config"].config.update("jax_enable_compilation_cache", False)


def _digest(key: str, value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=_DIGEST, key=hashlib.blake2b(key.encode()).digest()).digest()
