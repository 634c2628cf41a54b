import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnome_core.crystals.crystal import InvalidCrystal
from gnome_core.ensembles.bisect import bisect
from pipelines.beam.coders import RecordBatchCoder
from pipelines.beam.dead_letters import DEAD_SCHEMA, LONGEST, dead_letter, dead_letter_batch


def checked_square(items):
    for item in items:
        if item < 0:
            raise ValueError(f"negative {item}")
    return [item * item for item in items]


@given(st.lists(st.integers(-3, 20)))
def test_bisection_isolates_exactly_the_bad_items(items):
    result = bisect(checked_square, items, (ValueError,))
    assert [row for row, _ in result.bad] == [row for row, item in enumerate(items) if item < 0]
    squares = {row: square for rows, values in result.good for row, square in zip(rows, values, strict=True)}
    assert squares == {row: item * item for row, item in enumerate(items) if item >= 0}
    assert list(squares) == sorted(squares)


def test_one_bad_item_costs_logarithmically_many_calls():
    calls = []
    bisect(
        lambda items: calls.append(1) or checked_square(items),
        [-1 if i == 700 else i for i in range(1024)],
        (ValueError,),
    )
    assert len(calls) <= 2 * 10 + 1


def test_infrastructure_errors_propagate():
    def full_disk(_):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        bisect(full_disk, [1, 2], (ValueError,))


def test_a_letter_carries_reason_and_row():
    row = pa.RecordBatch.from_pydict({"id": ["x"], "energy": [1.0]})
    letter = dead_letter("score", "x", InvalidCrystal("overlapping_atoms", "too close " * 1000), row)
    batch = dead_letter_batch([letter])
    assert (letter.reason, len(batch["message"][0].as_py())) == ("overlapping_atoms", LONGEST)
    assert batch.schema == DEAD_SCHEMA
    assert RecordBatchCoder().decode(batch["payload"][0].as_py()).equals(row)
