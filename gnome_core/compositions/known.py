"""Which compositions are known already, as a set of hashes that every process of a machine can map from one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER

N_COLUMNS = MAX_ATOMIC_NUMBER + 1


@lru_cache(maxsize=1)
def _weights() -> np.ndarray:
    """(95,) odd uint64, one an element, the same everywhere and for ever."""
    digests = (hashlib.blake2b(f"composition {z}".encode(), digest_size=8).digest() for z in range(N_COLUMNS))
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64) | np.uint64(1)


def composition_hashes(compositions: np.ndarray) -> np.ndarray:
    """(n,) uint64 of compositions (n, 95), whole atom counts by atomic number: equal for equal reduced formulas.

    A weighted sum modulo 2^64. Two given formulas meet by chance in one case of about 10^19, so among 10^9 candidates
    and 10^6 known formulas none is to be expected. Raises ValueError for a row without atoms.
    """
    counts = np.asarray(compositions)
    divisors = np.gcd.reduce(counts.astype(np.int64, copy=False), axis=1)
    if not divisors.all():
        raise ValueError(f"row {int(divisors.argmin())} has no atoms; leave it out")
    return (counts // divisors[:, None]).astype(np.uint64) @ _weights()


class KnownCompositions:
    """A set of compositions, sorted hashes: 8 bytes each, looked up by bisection."""

    def __init__(self, hashes: np.ndarray):
        self.hashes = hashes

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def collect(cls, parts: Iterable[np.ndarray]) -> KnownCompositions:
        """The set of all rows of the compositions (n, 95) in `parts`."""
        hashes = [composition_hashes(part) for part in parts]
        return cls(np.unique(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64))

    def to_bytes(self) -> bytes:
        return self.hashes.astype("<u8").tobytes()

    @classmethod
    def map_file(cls, path: str) -> KnownCompositions:
        """What `to_bytes` wrote to a local file; its pages are shared by all processes that map it."""
        try:
            return cls(np.memmap(path, "<u8", mode="r"))
        except ValueError:  # an empty file cannot be mapped
            return cls(np.empty(0, np.uint64))

    def contains(self, hashes: np.ndarray) -> np.ndarray:
        """(n,) bool for (n,) hashes of `composition_hashes`."""
        if not len(self.hashes):
            return np.zeros(len(hashes), bool)
        place = np.searchsorted(self.hashes, hashes)
        return self.hashes[np.minimum(place, len(self.hashes) - 1)] == hashes
