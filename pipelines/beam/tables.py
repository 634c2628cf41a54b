"""Committed tables in and out of Beam as record batches.

Batches are fixed by construction: a written part holds the rows whose key hashes to it, sorted by key, in row groups
of ROW_GROUP; reading yields exactly those row groups. Bundles and workers never change what a batch holds.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.beam import coders  # noqa: F401  registers the Arrow coders
from pipelines.beam.metrics import inc
from pipelines.store.records import Commit, FileStat, table_files
from pipelines.store.store import ROW_GROUP, Store


def bucket_of(keys: pa.Array | pa.ChunkedArray, n_buckets: int) -> np.ndarray:
    """(n,) int64 bucket of each string or binary key, the same on every machine."""
    values = (value.encode() if isinstance(value, str) else value for value in keys.to_pylist())
    return np.fromiter((zlib.crc32(value) % n_buckets for value in values), np.int64, len(keys))


def split_by_bucket(batch: pa.RecordBatch, key: str, n_buckets: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(bucket, its rows) for every bucket that has rows."""
    buckets = bucket_of(batch.column(key), n_buckets)
    for bucket in np.unique(buckets):
        yield int(bucket), batch.take(pa.array(np.flatnonzero(buckets == bucket)))


class ReadTable(beam.PTransform):
    """The committed batches of one table: PCollection[pa.RecordBatch], a row group each, verified on reading."""

    def __init__(self, root: str, commits: Commit | Sequence[Commit], table: str, columns: Sequence[str] | None = None):
        super().__init__()
        commits = [commits] if isinstance(commits, Commit) else commits
        self.root, self.columns = root, columns
        self.files = [stat for commit in commits for stat in table_files(commit, table)]

    def expand(self, pipeline):
        return pipeline | ReadFiles(self.root, self.files, self.columns)


class ReadFiles(beam.PTransform):
    """The batches of files that `Store.write_table` wrote with row groups of so many rows: `together` groups each.

    What the graph holds are the files' names, and what is spread over workers is which groups to read, never the rows:
    services refuse graphs of more than 10 MB.
    """

    def __init__(
        self,
        root: str,
        files: Sequence[FileStat],
        columns: Sequence[str] | None = None,
        row_group: int = ROW_GROUP,
        together: int = 1,
    ):
        super().__init__()
        self.root, self.columns, self.row_group, self.together = root, columns, row_group, together
        self.files = [stat.model_dump_json() for stat in files]

    def expand(self, pipeline):
        return (
            pipeline
            | "Files" >> beam.Create(self.files).with_output_types(str)
            | "Groups" >> beam.FlatMap(_groups, self.row_group, self.together).with_output_types(tuple[str, int, int])
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(_ReadGroups(self.root, self.columns))
        )


def _groups(stat: str, row_group: int, together: int) -> Iterator[tuple[str, int, int]]:
    """(file, first group, group after the last) of every batch."""
    end = -(-FileStat.model_validate_json(stat).rows // row_group)
    for first in range(0, end, together):
        yield stat, first, min(first + together, end)


@beam.typehints.with_output_types(pa.RecordBatch)
class _ReadGroups(beam.DoFn):
    def __init__(self, root: str, columns: Sequence[str] | None):
        self.root, self.columns = root, columns

    def process(self, element: tuple[str, int, int]) -> Iterator[pa.RecordBatch]:
        stat, first, end = element
        file = pq.ParquetFile(pa.BufferReader(verified_file(self.root, stat)))
        rows = file.read_row_groups(range(first, end), columns=self.columns)
        inc("rows_read", len(rows))
        yield rows.combine_chunks().to_batches()[0]


@lru_cache(maxsize=8)
def verified_file(root: str, stat: str) -> pa.Buffer:
    """A committed file's bytes, from FileStat JSON: kept, since a worker reads many row groups of few files.

    The store's own keeping would ask a bucket for the file's version with each of them.
    """
    return pa.py_buffer(Store(root, keep=False).read_file(FileStat.model_validate_json(stat)))


class WriteTable(beam.PTransform):
    """Batches to Parquet parts of an attempt; gives a FileStat (as JSON) for each part.

    path: store-relative folder of the attempt. sort_by: columns that order the rows, unique together; the first, of
    strings or bytes, decides the part. n_parts: files, which bounds the rows held in memory at once.
    """

    def __init__(
        self,
        root: str,
        path: str,
        table: str,
        schema: pa.Schema,
        sort_by: Sequence[str],
        n_parts: int,
    ):
        super().__init__()
        self.writer = _WritePart(root, path, table, schema, tuple(sort_by), n_parts)

    def expand(self, batches):
        key, n_parts = self.writer.sort_by[0], self.writer.n_parts
        return (
            batches
            | "Split" >> beam.FlatMap(split_by_bucket, key, n_parts).with_output_types(tuple[int, pa.RecordBatch])
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(self.writer)
        )


@beam.typehints.with_output_types(str)
class _WritePart(beam.DoFn):
    def __init__(self, root: str, path: str, table: str, schema: pa.Schema, sort_by: tuple[str, ...], n_parts: int):
        self.root, self.path, self.table, self.schema = root, path, table, schema
        self.sort_by, self.n_parts = sort_by, n_parts

    def process(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[str]:
        part, batches = element
        rows = pa.Table.from_batches([batch.select(self.schema.names).cast(self.schema) for batch in batches])
        inc("rows_written", len(rows))
        stat = _write_part(Store(self.root), self.path, self.table, rows, self.sort_by, part, self.n_parts)
        yield stat.model_dump_json()


def write_parts(
    store: Store, path: str, table: str, rows: pa.Table, sort_by: Sequence[str], n_parts: int
) -> list[FileStat]:
    """What `WriteTable` writes, of rows that the driver holds anyway."""
    buckets = bucket_of(rows[sort_by[0]], n_parts)
    return [
        _write_part(store, path, table, rows.filter(pa.array(buckets == part)), sort_by, int(part), n_parts)
        for part in np.unique(buckets)
    ]


def _write_part(
    store: Store, path: str, table: str, rows: pa.Table, sort_by: Sequence[str], part: int, n_parts: int
) -> FileStat:
    name = f"{path}/{table}/part-{part:05d}-of-{n_parts:05d}.parquet"
    return store.write_table(name, table, sort_rows(rows, sort_by))


def sort_rows(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    return rows.take(pc.sort_indices(rows, [(name, "ascending") for name in by])).combine_chunks()
