import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import registry

from pipelines.beam.coders import RecordBatchCoder, TableCoder

ROWS = 100_000
TABLE = pa.table({"id": np.arange(ROWS), "sites": [[1, 2, 3]] * ROWS})


def test_a_slice_ships_only_its_rows():
    batch = TABLE.combine_chunks().to_batches()[0].slice(500, 10)
    encoded = RecordBatchCoder().encode(batch)
    assert len(encoded) < 5_000
    assert RecordBatchCoder().decode(encoded).equals(batch)


def test_table_coder_keeps_rows_and_metadata():
    table = TABLE.slice(7, 20).replace_schema_metadata({"unit.id": "none"})
    decoded = TableCoder().decode(TableCoder().encode(table))
    assert decoded.equals(table)
    assert decoded.schema.metadata == {b"unit.id": b"none"}


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_beam_uses_them_alone_and_inside_pairs(kind):
    expected = {pa.RecordBatch: RecordBatchCoder, pa.Table: TableCoder}[kind]
    assert isinstance(registry.get_coder(kind), expected)
    pair = registry.get_coder(beam.typehints.Tuple[int, kind])
    assert isinstance(pair.value_coder(), expected)
