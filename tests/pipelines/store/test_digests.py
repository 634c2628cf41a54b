import numpy as np
import pyarrow as pa

from pipelines.store.digests import add_digests, json_digest, rows_digest

TABLE = pa.table(
    {
        "id": ["a", "b", None, "d"],
        "energy": [1.0, -0.5, float("nan"), None],
        "sites": pa.array([[1, 2], [], None, [3]], pa.list_(pa.uint8())),
        "forces": pa.array([[[1.0, 2.0]], [], [[3.0], []], None], pa.list_(pa.list_(pa.float64()))),
        "flag": [True, None, False, True],
        "raw": pa.array([b"xy", b"zz", None, b"00"], pa.binary(2)),
    }
)


def test_order_chunks_slices_and_column_order_do_not_matter():
    expected = rows_digest(TABLE)
    shuffled = TABLE.take(pa.array([2, 0, 3, 1]))
    assert rows_digest(shuffled) == expected
    assert rows_digest(TABLE.select(sorted(TABLE.column_names, reverse=True))) == expected
    assert add_digests(rows_digest(TABLE.slice(0, 1)), rows_digest(TABLE.slice(1))) == expected
    assert sum(rows_digest(batch) for batch in TABLE.to_batches(max_chunksize=2)) % (1 << 128) == expected


def test_every_changed_cell_changes_the_digest():
    rows = TABLE.to_pylist()
    changed = {"id": "x", "energy": np.nextafter(1.0, 2.0), "sites": [2, 1], "forces": [[1.0], [2.0]]}
    changed |= {"flag": None, "raw": b"xz"}
    for name, value in changed.items():
        other = [{**rows[0], name: value}, *rows[1:]]
        assert rows_digest(pa.Table.from_pylist(other, TABLE.schema)) != rows_digest(TABLE), name


def test_moving_a_value_between_columns_changes_the_digest():
    assert rows_digest(pa.table({"a": ["xy"], "b": ["z"]})) != rows_digest(pa.table({"a": ["x"], "b": ["yz"]}))


def test_a_repeated_row_counts_twice():
    assert rows_digest(pa.concat_tables([TABLE, TABLE])) != rows_digest(TABLE)


def test_json_digest_ignores_key_order():
    assert json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1}) != json_digest({"a": 2, "b": 1})
