"""Which compositions are known, and to whom: sorted hashes that every process of a machine can map from one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from importlib import resources

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER

N_COLUMNS = MAX_ATOMIC_NUMBER + 1
MAX_SOURCES = 16
BLOCK = 20_000  # crystals whose atoms are counted at once

SCHEMA = pa.schema(
    [
        pa.field("hash", pa.uint64(), nullable=False),  # of `composition_hashes`, ascending
        pa.field("known_to", pa.uint16(), nullable=False),  # bit i: the i-th of the sources, which the metadata names
    ]
)


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


def crystal_hashes(numbers: pa.ChunkedArray) -> np.ndarray:
    """(n,) `composition_hashes` of the Arrow list column `numbers`."""

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(numbers), BLOCK):
            yield composition_hashes(atom_counts(numbers.slice(start, BLOCK)).astype(np.int32))

    return np.concatenate([np.empty(0, np.uint64), *blocks()])


class KnownCompositions:
    """A set of compositions, and to which sources each of them is known: 10 bytes each, looked up by bisection.

    hashes: (n,) uint64, ascending and distinct. known_to: (n,) uint16, bit i for sources[i].
    """

    def __init__(self, hashes: np.ndarray, known_to: np.ndarray, sources: Sequence[str]):
        self.hashes, self.known_to, self.sources = hashes, known_to, tuple(sources)

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def of_source(cls, source: str, hashes: np.ndarray) -> KnownCompositions:
        """What one source knows: hashes (m,) in any order, repeated or not."""
        distinct = np.unique(hashes)
        return cls(distinct, np.ones(len(distinct), np.uint16), (source,))

    @classmethod
    def union(cls, sets: Iterable[KnownCompositions]) -> KnownCompositions:
        """All of them. Sources keep their order; those of one name are one. Raises ValueError for more than 16."""
        sets = list(sets)
        sources = list(dict.fromkeys(source for known in sets for source in known.sources))
        if len(sources) > MAX_SOURCES:
            raise ValueError(f"{len(sources)} lists of known compositions; at most {MAX_SOURCES} can be told apart")
        hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *(known.hashes for known in sets)]))
        known_to = np.zeros(len(hashes), np.uint16)
        for known in sets:
            rows = np.searchsorted(hashes, known.hashes)
            for bit, source in enumerate(known.sources):
                known_to[rows] |= (known.known_to >> bit & 1) << sources.index(source)
        return cls(hashes, known_to, sources)

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """(n,) uint16, to whom compositions of these hashes are known, as `known_to`: 0 where to nobody."""
        if not len(self.hashes):
            return np.zeros(len(hashes), np.uint16)
        rows = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[rows] == hashes, self.known_to[rows], np.uint16(0))

    def names(self, known_to: int) -> list[str]:
        """The sources of one answer of `find`."""
        return [source for bit, source in enumerate(self.sources) if known_to >> bit & 1]

    def to_table(self) -> pa.Table:
        schema = SCHEMA.with_metadata({"sources": json.dumps(self.sources)})
        return pa.table([pa.array(self.hashes), pa.array(self.known_to)], schema=schema)

    @classmethod
    def from_table(cls, table: pa.Table) -> KnownCompositions:
        columns = (table[name] for name in SCHEMA.names)
        # combine_chunks copies even a single one, which may be mapped from a file.
        whole = (column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in columns)
        return cls(*(column.to_numpy() for column in whole), json.loads(table.schema.metadata[b"sources"]))

    def to_bytes(self) -> bytes:
        """An Arrow file."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self.to_table().schema) as file:
            file.write_table(self.to_table(), max_chunksize=max(1, len(self)))
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, data: bytes | pa.Buffer | pa.NativeFile) -> KnownCompositions:
        return cls.from_table(pa.ipc.open_file(data).read_all())

    @classmethod
    def map_file(cls, path: str) -> KnownCompositions:
        """What `to_bytes` wrote to a local file; its pages are shared by all processes that map it."""
        return cls.from_bytes(pa.memory_map(path))


@cache
def shipped_compositions() -> KnownCompositions:
    """Those that come with the package: known to the Materials Project (mp), OQMD (oqmd), or made (experiment)."""
    with resources.as_file(resources.files("gnome_core.data") / "known_formulas.parquet") as path:
        return KnownCompositions.from_table(pq.read_table(path))
