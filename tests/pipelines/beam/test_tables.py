import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from pipelines.beam import tags
from pipelines.beam.dead_letters import DeadLetter, dead_letter_batch
from pipelines.beam.runners import run_pipeline, runner_flags
from pipelines.beam.tables import ReadTable, WriteTable, bucket_of
from pipelines.rounds.manifest import WriteManifest, read_manifest
from pipelines.store.records import Commit, table_digests
from pipelines.store.store import Store

SCHEMA = pa.schema([("id", pa.string()), ("x", pa.float64())])
ROWS = pa.table({"id": [f"row-{i}" for i in range(5_000)], "x": np.arange(5_000.0)}, SCHEMA)


def batches(chunk: int) -> list[pa.RecordBatch]:
    """The rows in batches of `chunk`, last row first."""
    return ROWS.take(pa.array(np.arange(len(ROWS))[::-1])).to_batches(max_chunksize=chunk)


def write(store: Store, path: str, chunk: int, flags=()) -> Commit:
    def build(pipeline):
        rows = pipeline | beam.Create(batches(chunk)).with_output_types(pa.RecordBatch)
        files = rows | WriteTable(store.root, path, "rows", SCHEMA, ("id",), n_parts=3)
        counts = pipeline | "C" >> beam.Create([(tags.IN, 5_001), (tags.dead("bad"), 1)]).with_output_types(
            tuple[str, int]
        )
        letter = dead_letter_batch([DeadLetter("test", "k", "bad", "m", b"p")])
        dead = pipeline | "D" >> beam.Create([letter]).with_output_types(pa.RecordBatch)
        pipeline | WriteManifest(store.root, path, "rows", [files], [counts], [dead])

    run_pipeline(runner_flags(flags), build)
    manifest = read_manifest(store, path)
    manifest.counts.check("test")
    assert manifest.counts.dead == {"bad": 1}
    job = {"stage": "s", "inputs": {}, "config": "", "code": ""}
    digests = table_digests(manifest.files)
    return Commit(
        **job, round=0, attempt="a", files=manifest.files, rows_digests=digests, counts=manifest.counts, seconds=0
    )


def read(store: Store, commit: Commit) -> list[pa.RecordBatch]:
    found: list[pa.RecordBatch] = []

    def build(pipeline):
        rows = pipeline | ReadTable(store.root, commit, "rows")
        rows | beam.Map(lambda batch: store.write_table(f"read/{batch['id'][0]}.parquet", "r", pa.table(batch)))

    run_pipeline(runner_flags([]), build)
    import pyarrow.parquet as pq

    for name in store.storage.children("read"):
        found.append(pq.read_table(f"{store.root}/read/{name}"))
    return found


@pytest.mark.parametrize("flags", [(), ("--direct_running_mode=multi_threading", "--direct_num_workers=2")])
def test_files_do_not_depend_on_batches_or_workers(tmp_path, flags):
    store = Store(str(tmp_path))
    one, other = write(store, "a", 5_000), write(store, "b", 7 * 100, flags)
    assert one.rows_digests == other.rows_digests
    assert [f.crc32c for f in one.files] == [f.crc32c for f in other.files]
    assert one.rows("rows") == 5_000
    assert one.rows("dead") == 1


def test_reading_gives_the_row_groups_as_written(tmp_path):
    store = Store(str(tmp_path))
    commit = write(store, "a", 1_000)
    found = read(store, commit)
    assert sum(len(batch) for batch in found) == 5_000
    assert sorted(i for batch in found for i in batch["id"].to_pylist()) == sorted(ROWS["id"].to_pylist())
    for batch in found:
        ids = batch["id"].to_pylist()
        assert ids == sorted(ids)
        assert len(set(bucket_of(batch["id"], 3))) == 1


def test_buckets_are_the_same_everywhere():
    assert bucket_of(pa.array(["a", "b", "c"]), 1000).tolist() == [907, 681, 655]
    assert bucket_of(pa.array([b"a"]), 1000).tolist() == [907]
