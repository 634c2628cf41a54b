"""Arrow coders for Beam. Importing this module registers them; every module that builds a pipeline imports it.

Beam's default is pickle, which ships a slice together with its whole parent buffer. Beam samples the sizes of elements
even where they stay in the process: `estimate_size` spares it the encoding.
"""

from __future__ import annotations

import pyarrow as pa
from apache_beam import coders

COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")  # what is shuffled, goes over networks and to disk


class _ArrowCoder(coders.Coder):
    def estimate_size(self, value: pa.RecordBatch | pa.Table) -> int:
        return value.nbytes

    def is_deterministic(self) -> bool:
        return False


class RecordBatchCoder(_ArrowCoder):
    """pa.RecordBatch as one Arrow IPC stream; a slice ships only its own rows."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        return _to_ipc(value.schema, [value])

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(encoded) as stream:
            return stream.read_next_batch()

    def to_type_hint(self):
        return pa.RecordBatch


class TableCoder(_ArrowCoder):
    """pa.Table as one Arrow IPC stream."""

    def encode(self, value: pa.Table) -> bytes:
        return _to_ipc(value.schema, value.to_batches())

    def decode(self, encoded: bytes) -> pa.Table:
        with pa.ipc.open_stream(encoded) as stream:
            return stream.read_all()

    def to_type_hint(self):
        return pa.Table


def _to_ipc(schema: pa.Schema, batches: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=COMPRESSED) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)
coders.registry.register_coder(pa.Table, TableCoder)
