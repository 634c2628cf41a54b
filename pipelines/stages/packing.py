"""How often random structures of a composition found no room: a side output of expanding candidates, and its table."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from pipelines.reading.schemas import PACKING_SCHEMA

PACKING = "packing"  # side output: (formula, (random structures begun, those that could not be packed))


class CountPacking(beam.PTransform):
    """The tag PACKING -> batches of PACKING_SCHEMA, one row a composition."""

    def expand(self, begun):
        return (
            begun
            | "Sum"
            >> beam.CombinePerKey(beam.combiners.TupleCombineFn(sum, sum)).with_output_types(
                tuple[str, tuple[int, int]]
            )
            | "Batch" >> beam.BatchElements(min_batch_size=100, max_batch_size=2000)
            | "ToArrow" >> beam.Map(_packing_batch).with_output_types(pa.RecordBatch)
        )


def _packing_batch(rows: list[tuple[str, tuple[int, int]]]) -> pa.RecordBatch:
    columns = zip(*((formula, begun, failed) for formula, (begun, failed) in rows), strict=True)
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=PACKING_SCHEMA)
