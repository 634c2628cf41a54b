import csv

import pyarrow.parquet as pq

from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.cif import parse_cif
from gnome_core.crystals.writers import write_cif, write_csv, write_parquet
from tests.gnome_core.crystals.samples import assert_same_crystal, entries_table, sample_crystals


def test_parquet_keeps_rows_schema_and_units(tmp_path):
    table = entries_table(sample_crystals(5))
    write_parquet(table, tmp_path / "x.parquet")
    back = pq.read_table(tmp_path / "x.parquet")
    assert back.equals(table)
    assert back.schema.equals(ENTRY_SCHEMA, check_metadata=True)


def test_csv_has_one_line_an_entry_and_the_number_of_sites(tmp_path):
    crystals = sample_crystals(5)
    write_csv(entries_table(crystals), tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"entry-{i}" for i in range(5)]
    assert [int(row["n_sites"]) for row in rows] == [c.n_sites for c in crystals]
    assert float(rows[3]["e_form_per_atom"]) == -0.7
    assert "lattice" not in rows[0]


def test_cif_files_have_safe_distinct_names(tmp_path):
    crystals = sample_crystals(5)
    table = entries_table(crystals)
    ids = ["../../etc/x", "a b/c", "A b:c", "", "mp-1"]
    paths = write_cif(table.set_column(0, ENTRY_SCHEMA.field("id"), [ids]), tmp_path / "new" / "folder")
    assert len({path.name.lower() for path in paths}) == 5
    assert {path.parent for path in paths} == {tmp_path / "new" / "folder"}
    assert paths[4].name == "mp-1.cif"
    for path, crystal in zip(paths, crystals, strict=True):
        assert_same_crystal(parse_cif(path.read_text()), crystal)
