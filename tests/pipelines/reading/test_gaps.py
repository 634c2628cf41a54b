"""The one reader of band gaps."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.reading.entries import measured_entries
from pipelines.reading.gaps import read_gaps, with_gaps
from pipelines.store.store import Store
from tests.gnome_core.analysis.samples import entries_of, rock_salt, with_band_gaps


@pytest.mark.parametrize("name", ["1000041", "0012", "1e5", "12e34"])
def test_ids_of_digits_are_names(tmp_path, name):
    (tmp_path / "g.csv").write_text(f"id,band_gap\n{name},2.0\n")
    assert read_gaps(tmp_path / "g.csv") == {name: 2.0}


def test_ids_go_before_formulas_which_may_be_written_in_any_way(tmp_path):
    (tmp_path / "g.csv").write_text("id,formula,band_gap\na,ClLi,9.4\n,F2Li2,13.6\n")
    entries = entries_of([rock_salt(11, 17), rock_salt(3, 9), rock_salt(11, 35)], [0] * 3, [0] * 3, ["a", "b", "c"])
    found = with_gaps(with_band_gaps(entries, {"b": 1.0, "c": 2.0}), read_gaps(tmp_path / "g.csv"))
    assert found["band_gap"].to_pylist() == [9.4, 13.6, 2.0]
    assert found["band_gap_by"].to_pylist() == ["the given table", "the given table", "a test"]


def test_what_nobody_computed_is_said_to_be_the_models():
    entries = entries_of([rock_salt(11, 17), rock_salt(11, 84)], [0] * 2, [0] * 2, ["salt", "polonide"])
    found = with_gaps(with_band_gaps(entries, {}), None)
    assert found["band_gap_by"].to_pylist() == ["gap model", None]
    assert 3 < found["band_gap"][0].as_py() < 8  # PBE: 5.1 eV
    assert found["band_gap"][1].as_py() is None


def test_gaps_of_results_stand_beside_their_entries(two_rounds, monkeypatch):
    store = Store(str(two_rounds))
    assert measured_entries(store)["band_gap"].null_count == len(measured_entries(store)), "potentials give none"
    read = Store.read_table

    def with_results(self, commit, table, schema, columns=None):
        rows = read(self, commit, table, schema, columns)
        if table == "results" and columns is not None and "band_gap" in columns:
            gaps = pa.array([2.5 if commit.round == 2 else None] * len(rows), pa.float64())
            rows = rows.set_column(rows.column_names.index("band_gap"), "band_gap", gaps)
        return rows

    monkeypatch.setattr(Store, "read_table", with_results)
    entries = measured_entries(store)
    own = entries.filter(pa.array([round_ == 2 for round_ in entries["round"].to_pylist()]))
    assert len(own)
    assert set(own["band_gap"].to_pylist()) == {2.5}
    assert set(own["band_gap_by"].to_pylist()) == set(entries["scale"].to_pylist())
    assert entries["band_gap"].null_count == len(entries) - len(own)


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
