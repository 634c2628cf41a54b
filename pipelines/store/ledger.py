"""A ledger in a store: sealed records that are only ever appended, one object each, numbered without gaps.

Whoever appends has read all that was written before. Of two who append at one moment one gets the number; the other
reads that record too, and decides anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines.errors import StoreError
from pipelines.store.seals import sealed, unsealed
from pipelines.store.store import RESTORE, Store

READERS = 16  # requests at a time


class Ledger:
    """The records below the store-relative folder `path`."""

    def __init__(self, store: Store, path: str):
        self.store, self.path = store, path
        self._records: list[dict] = []

    def records(self) -> Sequence[dict]:
        """All that are there now, oldest first. Raises StoreError for one that is missing or was changed."""
        known = len(self._records)
        if known and not self.store.storage.exists(self._name(known + 1)):
            return self._records
        names = [name.removesuffix(".json") for name in self.store.storage.children(self.path)]
        newest = max((int(name) for name in names if name.isdigit()), default=known)
        while self.store.storage.exists(self._name(newest + 1)):  # a listing may be older than the record
            newest += 1
        with ThreadPoolExecutor(READERS) as pool:
            self._records += pool.map(self._read, range(len(self._records) + 1, newest + 1))
        return self._records

    def append(self, decide: Callable[[Sequence[dict]], dict | None]) -> dict | None:
        """Append what `decide` makes of all records before it; None where it makes nothing of them."""
        while (record := decide(self.records())) is not None:
            if self.store.storage.create(self._name(len(self._records) + 1), sealed(record)):
                return record
        return None

    def _name(self, number: int) -> str:
        return f"{self.path}/{number:08}.json"

    def _read(self, number: int) -> dict:
        path = self._name(number)
        where = f"{self.store.root}/{path}"
        try:
            return unsealed(self.store.storage.read(path), where, self.store.root)
        except FileNotFoundError:
            raise StoreError(f"{where} is missing; {RESTORE}") from None
