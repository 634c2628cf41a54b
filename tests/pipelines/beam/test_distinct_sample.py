import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.selection.draws import draws
from pipelines.beam import distinct_sample as sample
from pipelines.beam.distinct_sample import SampleDistinct, SmallestDraws
from pipelines.beam.runners import run_pipeline, runner_flags


def batch_of(keys: list[int]) -> pa.RecordBatch:
    digests = pa.array([key.to_bytes(16, "big") for key in keys], pa.binary(16))
    return pa.RecordBatch.from_arrays(
        [pa.array(keys, pa.int64()), digests, draws(digests, 7)], ["key", "digest", "draw"]
    )


def expected(keys: list[int], limit: int) -> dict[int, int]:
    """key -> copies of the `limit` distinct keys with the smallest draws."""
    distinct = sorted(set(keys), key=lambda key: draws(pa.array([key.to_bytes(16, "big")]), 7)[0].as_py())
    return {key: keys.count(key) for key in distinct[:limit]}


def as_dict(batch: pa.RecordBatch) -> dict[int, int]:
    return dict(zip(batch["key"].to_pylist(), batch["copies"].to_pylist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), max_size=30), min_size=1, max_size=8), st.integers(1, 40), st.data())
def test_result_does_not_depend_on_who_combines_what(parts, limit, data):
    loose, sample.LOOSE_ROWS = sample.LOOSE_ROWS, 5  # settle often
    try:
        combine = SmallestDraws(limit)
        accumulators = []
        for part in parts:
            held = combine.create_accumulator()
            for start in range(0, len(part), 7):
                held = combine.add_input(held, batch_of(part[start : start + 7]))
            if data.draw(st.booleans()):
                held = combine.compact(held)
            coder = combine.get_accumulator_coder()
            accumulators.append(coder.decode(coder.encode(held)))
        keys = [key for part in parts for key in part]
        if not keys:
            return
        order = data.draw(st.permutations(range(len(accumulators))))
        merged = combine.merge_accumulators([accumulators[i] for i in order if accumulators[i]])
        assert as_dict(combine.extract_output(merged)) == expected(keys, limit)
    finally:
        sample.LOOSE_ROWS = loose


@pytest.mark.parametrize("limit", [6, 40, 1000])
def test_every_row_is_kept_or_counted(limit):
    keys = np.random.default_rng(0).integers(0, 150, 400).tolist()
    batches = [batch_of(keys[start : start + 23]) for start in range(0, 400, 23)]

    def check(_, sampled: list[pa.RecordBatch], counts: dict[str, int]):
        assert all(len(batch) <= -(-limit // 2) for batch in sampled)
        rows = {key: n for batch in sampled for key, n in as_dict(batch).items()}
        assert len(rows) == sum(map(len, sampled)) == min(limit, len(set(keys)))
        assert all(keys.count(key) == n for key, n in rows.items())
        assert counts["rejected/duplicate"] == sum(rows.values()) - len(rows)
        assert counts["rejected/over_limit"] == 400 - sum(rows.values())

    def build(pipeline):
        rows = pipeline | beam.Create(batches).with_output_types(pa.RecordBatch)
        sampled, counts = rows | SampleDistinct(limit, 2)
        summed = (*counts,) | beam.Flatten() | beam.CombinePerKey(sum)
        once = pipeline | "Once" >> beam.Create([None])
        once | beam.Map(check, beam.pvalue.AsList(sampled), beam.pvalue.AsDict(summed))

    run_pipeline(runner_flags([]), build)
