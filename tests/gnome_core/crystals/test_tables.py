"""Tables of users: names that look like numbers, numbers that are text, cells that hold nothing."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.entries import Rejected, SourceError
from gnome_core.crystals.sources.formula_table import read_formula_table
from gnome_core.crystals.sources.tables import read_table, texts
from gnome_core.crystals.sources.values import as_number

NAMES = ["1000041", "0012", "1e5", "12e34", "2020-01-01", "nan", "null", "NA", "true"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_what_it_is(tmp_path, name):
    path = tmp_path / "t.csv"
    path.write_text(f"id,formula\n{name},LiF\n")
    assert texts(read_table(path), "id") == [name]
    (row,) = read_formula_table(path)
    assert row.key == name


def test_ids_of_parquet_files_may_be_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": [1000041, 12], "formula": ["LiF", "NaCl"]}), path)
    assert [row.key for row in read_formula_table(path)] == ["1000041", "12"]


def test_marks_quotes_and_line_ends_of_other_systems(tmp_path):
    path = tmp_path / "t.CSV"
    path.write_bytes('\ufeffid,formula\r\n"a\nb","NaCl"\r\n'.encode())
    assert [(row.key, row.composition) for row in read_formula_table(path)] == [("a\nb", ((11, 1), (17, 1)))]


def test_labels_that_are_text_cost_their_row_and_those_that_are_nothing_do_not(tmp_path):
    path = tmp_path / "t.csv"
    labels = ["-3.1", "None", "-", "N/A", '"-2,1"', "8.3(1)", "1_0", "inf", ""]
    path.write_text("formula,e_form_per_atom\n" + "".join(f"LiF,{label}\n" for label in labels))
    rows = list(read_formula_table(path))
    assert [row.reason if isinstance(row, Rejected) else row.e_form_per_atom for row in rows] == [
        -3.1, None, None, None, "not_a_number", "not_a_number", "not_a_number", "not_finite", None,
    ]  # fmt: skip
    broken = [row for row in rows if isinstance(row, Rejected)]
    assert all(f"{path}, row " in row.message for row in broken)
    assert "'8.3(1)'" in broken[1].message


def test_a_table_that_is_none_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"id,formula\n\xff\xfe,LiF\n")
    (tmp_path / "u.csv").write_text("id,formula\na\n")
    for name in ("t.csv", "u.csv"):
        with pytest.raises(SourceError, match=f"{name}: cannot be read"):
            read_table(tmp_path / name)


def test_cells_of_other_types_are_no_numbers():
    assert as_number(3) == 3.0
    for cell in ([1.0], {"value": 1.0}, "P n m a"):
        with pytest.raises(ValueError, match="is no number"):
            as_number(cell)
