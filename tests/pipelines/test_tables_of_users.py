"""Tables that users give to analyses and snapshots: numbered ids, matrices, energies as text, labels of two kinds."""

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnome_core.analysis import r2scan
from gnome_core.crystals.readers import read_snapshot
from gnome_core.crystals.writers import write_parquet
from pipelines.analyses import ANALYSES, Options
from pipelines.errors import UserError
from pipelines.stages.snapshot_entries import unlabelled_crystals
from tests.gnome_core.crystals.samples import entries_table, sample_crystals


@pytest.fixture
def inputs():
    return SimpleNamespace(entries=entries_table(sample_crystals(4)))


def test_novelty_against_numbered_ids_and_matrices_names_the_broken_rows(inputs, tmp_path):
    crystals = sample_crystals(4)[1:]
    table = {
        "id": [1000041, 7, 8],
        "lattice": [c.lattice.tolist() if c is not crystals[2] else None for c in crystals],
        "frac_coords": [c.frac_coords.tolist() for c in crystals],
        "numbers": [c.numbers.tolist() for c in crystals],
    }
    pq.write_table(pa.table(table), tmp_path / "known.parquet")
    options = Options(all_stable=True, against=str(tmp_path / "known.parquet"))
    analysis = ANALYSES["novelty"](inputs, options, lambda items, _: items)
    assert analysis.tables["crystals"]["novelty_source"].to_pylist() == [None, "1000041", "7", None]
    assert analysis.summary["known crystals"] == 2
    assert "1 rows of" in analysis.notes[-1]
    assert "could not be read and were left out" in analysis.notes[-1]
    assert "known.parquet, row 2: lattice is null" in analysis.notes[-1]


def test_r2scan_results_with_numbered_ids_and_energies_as_text(inputs, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(r2scan, "analyse", lambda entries, results: given.append(results))
    table = {"id": [1, 2], "numbers": [[3], [3, 9]], "e_form_per_atom": ["0", "-3.1"], "scale": ["r2scan"] * 2}
    pq.write_table(pa.table(table), tmp_path / "r.parquet")
    options = Options(all_stable=True, results=tmp_path / "r.parquet")
    ANALYSES["r2scan"](inputs, options, lambda items, _: items)
    assert given[0]["id"].to_pylist() == ["1", "2"]
    assert given[0]["e_form_per_atom"].to_pylist() == [0.0, -3.1]
    pq.write_table(pa.table({**table, "e_form_per_atom": ["0", "None"]}), tmp_path / "r.parquet")
    with pytest.raises(UserError, match=r"r.parquet, row 1: every result needs"):
        ANALYSES["r2scan"](inputs, options, lambda items, _: items)


def test_a_snapshot_of_our_own_export_keeps_the_databases_labels(tmp_path):
    entries = entries_table(sample_crystals(3))
    write_parquet(entries, tmp_path / "e.parquet")
    crystals, repeated = unlabelled_crystals(read_snapshot(str(tmp_path / "e.parquet")), "{}")
    assert (len(crystals), repeated) == (3, 0)
    assert crystals["reference_e_form_per_atom"].to_pylist() == entries["reference_e_form_per_atom"].to_pylist()
    plain = entries.drop_columns(["reference_e_form_per_atom"])
    write_parquet(plain, tmp_path / "p.parquet")
    crystals, _ = unlabelled_crystals(read_snapshot(str(tmp_path / "p.parquet")), "{}")
    assert crystals["reference_e_form_per_atom"].to_pylist() == plain["e_form_per_atom"].to_pylist()
