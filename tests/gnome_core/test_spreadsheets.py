"""CSV for spreadsheets: no text runs as a formula, and what was written is read back."""

import pyarrow as pa
import pyarrow.csv
import pytest

from gnome_core.spreadsheets import marked, unmarked, write_csv

TEXTS = [
    "=1+1",
    "+49",
    "-2",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "'",
    "'=x",
    "''",
    "LiF[relaxed]",
    "x=1",
    "a,b",
    'say "a"',
    "Ångström",
]


def test_no_text_begins_like_a_formula_and_numbers_are_as_they_were(tmp_path):
    table = pa.table({"id": TEXTS, "e": [-1.5] * len(TEXTS), "n": [-3] * len(TEXTS), "=evil": TEXTS})
    write_csv(table, tmp_path / "a.csv")
    raw = pyarrow.csv.read_csv(tmp_path / "a.csv", parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
    assert not any(text.startswith(tuple("=+-@\t\r")) for text in raw["id"].to_pylist())
    assert raw["e"].to_pylist() == [-1.5] * len(TEXTS)
    assert "-3" in (tmp_path / "a.csv").read_text(), "a number is no text"
    assert unmarked(raw).equals(table)
    assert raw["id"].to_pylist() == [marked(text) for text in TEXTS]


@pytest.mark.parametrize("texts", [[], [None], [None, "=x", ""]])
def test_empty_tables_and_missing_texts_stay(texts, tmp_path):
    table = pa.table({"id": pa.array(texts, pa.string()), "n": pa.array(range(len(texts)), pa.int64())})
    write_csv(table, tmp_path / "a.csv")
    options = pyarrow.csv.ConvertOptions(
        column_types=table.schema, strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    assert unmarked(pyarrow.csv.read_csv(tmp_path / "a.csv", convert_options=options)).equals(table)
