import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.entries import Rejected, SourceError
from gnome_core.crystals.sources.formula_table import LabelledComposition, read_formula_table


def test_formulas_are_read_reduced_and_the_rest_named(tmp_path):
    path = tmp_path / "formulas.csv"
    path.write_text(
        "id,formula,e_form_per_atom\na,Li30Si8,-0.2\nb,Fe0.5O,\nc,Pb(NO3)2,-1\nd,Xy2,-1\ne,Cm2O3,-1\nf,)(,0\n"
    )
    first, second, third, *bad = read_formula_table(path)
    assert first == LabelledComposition("a", ((3, 15), (14, 4)), -0.2)
    assert second == LabelledComposition("b", ((8, 2), (26, 1)), None)
    assert third.composition == ((7, 2), (8, 6), (82, 1))
    assert [(row.key, row.reason) for row in bad if isinstance(row, Rejected)] == [
        ("d", "unknown_element"),
        ("e", "unknown_element"),
        ("f", "bad_formula"),
    ]
    assert all(f"{path}, row " in row.message for row in bad)


def test_parquet_without_ids_is_numbered_and_labels_must_be_finite(tmp_path):
    path = tmp_path / "formulas.parquet"
    pq.write_table(pa.table({"formula": ["NaCl", "KBr"], "e_form_per_atom": [-2.1, float("nan")]}), path)
    good, bad = read_formula_table(path)
    assert (good.key, good.composition) == ("0", ((11, 1), (17, 1)))
    assert (bad.key, bad.reason) == ("1", "not_finite")


def test_files_that_are_no_such_table_are_errors(tmp_path):
    (tmp_path / "x.csv").write_text("name\nNaCl\n")
    with pytest.raises(SourceError, match="no column `formula`"):
        list(read_formula_table(tmp_path / "x.csv"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="cannot be read"):
        list(read_formula_table(tmp_path / "x.parquet"))
