import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal

SCHEMA = pa.schema(CRYSTAL_FIELDS)
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def crystals(draw) -> Crystal:
    sites = draw(st.integers(0, 6))
    return Crystal(
        draw(arrays(np.float64, (3, 3), elements=FINITE)),
        draw(arrays(np.float64, (sites, 3), elements=FINITE)),
        draw(arrays(np.uint8, sites, elements=st.integers(1, 94))),
    )


def random_crystals(count: int, sites: int = 10) -> list[Crystal]:
    rng = np.random.default_rng(0)
    return [Crystal(rng.random((3, 3)), rng.random((sites, 3)), rng.integers(1, 95, sites)) for _ in range(count)]


def assert_same(left: list[Crystal], right: list[Crystal]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for name in ("lattice", "frac_coords", "numbers"):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=60, deadline=None)
@given(st.lists(crystals(), max_size=8), st.data())
def test_round_trip_of_batches_slices_and_chunks(originals, data):
    batch = record_batch(SCHEMA, [str(i) for i in range(len(originals))], originals)
    assert_same(crystals_from_batch(batch), originals)
    start = data.draw(st.integers(0, len(originals)))
    length = data.draw(st.integers(0, len(originals) - start))
    part = batch.slice(start, length)
    assert_same(crystals_from_batch(part), originals[start : start + length])
    table = pa.Table.from_batches([part, batch, part.slice(1)])
    expected = originals[start : start + length]
    assert_same(crystals_from_batch(table), expected + originals + expected[1:])
    assert_same(crystals_from_batch(table.slice(1)), (expected + originals + expected[1:])[1:])


ENTRY_COLUMNS = {
    "formula": "Li2O", "chemsys": "Li-O", "energy_per_atom": [-4.0, -4.5], "correction_per_atom": 0.0,
    "e_form_per_atom": np.array([-2.0, -2.5]), "energy_kind": "total", "scale": "chgnet-0.3.0", "source": "mp",
    "round": 0,
}  # fmt: skip


def test_entries_keep_schema_units_and_nulls_through_parquet(tmp_path):
    batch = record_batch(ENTRY_SCHEMA, ["a", "b"], random_crystals(2), parent=[None, "a"], **ENTRY_COLUMNS)
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "entries.parquet")
    table = pq.read_table(tmp_path / "entries.parquet")
    assert table.schema.equals(ENTRY_SCHEMA, check_metadata=True)
    assert table.schema.metadata[b"unit.energy_per_atom"] == b"eV/atom"
    assert table["parent"].to_pylist() == [None, "a"]
    assert table["reference_e_form_per_atom"].null_count == 2
    assert_same(crystals_from_batch(table), random_crystals(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formla": "Li2O"}, "formla"),
        ({"formula": None}, "'formula' needs a value"),
        ({"energy_per_atom": [1.0]}, "1 values for 2 crystals"),
        ({"scale": ["x", None]}, "1 of 2 lack one"),
    ],
)
def test_wrong_columns_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        record_batch(ENTRY_SCHEMA, ["a", "b"], random_crystals(2), **(ENTRY_COLUMNS | change))


def test_columns_may_be_arrow_arrays_of_kindred_types():
    ids = pa.chunked_array([["a"], ["b"]], pa.large_string())
    batch = record_batch(ENTRY_SCHEMA, ids, random_crystals(2), parent=pa.array(["x", None]), **ENTRY_COLUMNS)
    assert batch["id"].to_pylist() == ["a", "b"]
    assert batch["parent"].to_pylist() == ["x", None]


def test_inconsistent_row_is_named():
    batch = record_batch(SCHEMA, ["a", "b"], random_crystals(2, sites=2))
    short = batch.set_column(3, SCHEMA.field("numbers"), pa.array([[1, 2], [1]], pa.list_(pa.uint8())))
    with pytest.raises(ValueError, match=r"row 1: .* 6 fractional coordinates and 1 atomic"):
        crystals_from_batch(short)
    null = batch.set_column(1, "lattice", pa.array([[0.0] * 9, None]))
    with pytest.raises(ValueError, match="row 1: lattice is null"):
        crystals_from_batch(null)


def test_float32_and_fixed_size_lists_decode():
    batch = record_batch(SCHEMA, ["a", "b", "c"], random_crystals(3))
    fixed = pa.FixedSizeListArray.from_arrays(batch["lattice"].flatten(), 9)
    single = batch["frac_coords"].cast(pa.list_(pa.float32()))
    other = pa.record_batch({"lattice": fixed, "frac_coords": single, "numbers": batch["numbers"]})
    decoded = crystals_from_batch(other.slice(1))
    np.testing.assert_array_equal(decoded[0].lattice, random_crystals(3)[1].lattice)
    np.testing.assert_allclose(decoded[1].frac_coords, random_crystals(3)[2].frac_coords, atol=1e-7)


def test_decoding_copies_no_coordinates():
    """Views of the columns: 2-5 µs a row, where Arrow's scalars would take over 200."""
    batch = record_batch(SCHEMA, [""] * 50, random_crystals(50))
    decoded = crystals_from_batch(batch)
    for name in ("lattice", "frac_coords", "numbers"):
        column = batch[name].flatten().to_numpy()
        assert all(np.shares_memory(getattr(crystal, name), column) for crystal in decoded)
