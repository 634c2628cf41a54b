"""The one reader of band gaps."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.reading.gaps import gap_of, read_gaps


@pytest.mark.parametrize("name", ["1000041", "0012", "1e5", "12e34"])
def test_ids_of_digits_are_names(tmp_path, name):
    (tmp_path / "g.csv").write_text(f"id,band_gap\n{name},2.0\n")
    assert read_gaps(tmp_path / "g.csv") == {name: 2.0}


def test_ids_go_before_formulas_which_may_be_written_in_any_way(tmp_path):
    (tmp_path / "g.csv").write_text("id,formula,band_gap\na,ClLi,9.4\n,F2Li2,13.6\n")
    gaps = read_gaps(tmp_path / "g.csv")
    assert (gap_of(gaps, "a", "NaCl"), gap_of(gaps, "b", "LiF"), gap_of(gaps, "b", "NaCl")) == (9.4, 13.6, None)


def test_parquet_of_numbered_ids_and_gaps_as_text(tmp_path):
    pq.write_table(pa.table({"id": [7, 8, 9], "band_gap": ["1.5", "None", None]}), tmp_path / "g.parquet")
    assert read_gaps(tmp_path / "g.parquet") == {"7": 1.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,gap\na,1\n", "needs a column band_gap"),
        ("name,band_gap\na,1\n", "needs a column band_gap"),
        ('id,band_gap\na,1\nb,"1,2"\n', "row 1: '1,2' is no number"),
        ("formula,band_gap\nLiF,1\nlif,2\n", "row 1: 'lif' is no formula"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_gaps(tmp_path / "g.csv")
    with pytest.raises(UserError, match="no such file"):
        read_gaps(tmp_path / "absent.csv")
