"""What this process has read of stores: a commit and what it lists never change, so they need not be read again.

A value is good for one version of the file at its address: a store that was made again at the same place is read again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Any

FILE_BYTES = 256 << 20


class Kept:
    """Values by address, for threads to share and none to change.

    limit: bytes that are kept; beyond it the least recently used go, but never the newest, whatever its size.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._lock = Lock()
        self._values: OrderedDict[str, tuple[Hashable, Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, address: str, version: Hashable) -> Any | None:
        """The value of that version of the file, None where there is none."""
        with self._lock:
            found = self._values.get(address)
            if found is None or found[0] != version:
                return None
            self._values.move_to_end(address)
            return found[1]

    def put(self, address: str, version: Hashable, value: Any, size: int = 0) -> None:
        """Keep a value, in place of another version's. size: bytes, 0 for one that is kept for good."""
        with self._lock:
            self._drop(address)
            self._values[address] = version, value, size
            self._bytes += size
            while self._bytes > self.limit and len(self._values) > 1:
                self._drop(next(iter(self._values)))

    def _drop(self, address: str) -> None:
        _, _, size = self._values.pop(address, (None, None, 0))
        self._bytes -= size


DOCUMENTS = Kept(0)  # commits and configs: a few kB each
FILES = Kept(FILE_BYTES)  # bytes of committed files, compared with their commits
