"""What files hold for an ensemble: labels, what is left out, and the hull of a file's labels."""

from importlib import resources

import numpy as np
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.readers import embedded_entries
from gnome_core.crystals.writers import write_csv, write_parquet
from gnome_core.ensembles.rows import labelled_rows, read_rows
from gnome_core.ensembles.workflows import snapshot_hull, without_compounds
from tests.gnome_core.crystals.samples import entries_table, sample_crystals


def test_labels_of_an_export_are_the_same_from_parquet_and_csv(tmp_path):
    entries = entries_table(sample_crystals(12))
    fourth = entries.schema.get_field_index("reference_e_form_per_atom")
    # Crystals that rounds found have no label of a database.
    references = [None if row % 2 else -9.0 for row in range(12)]
    entries = entries.set_column(fourth, entries.schema.field(fourth), [references])
    write_parquet(entries, tmp_path / "e.parquet")
    write_csv(entries, tmp_path / "e.csv")
    expected = entries["e_form_per_atom"].to_numpy()
    by_id = dict(zip(entries["id"].to_pylist(), expected, strict=True))
    structural = read_rows(str(tmp_path / "e.parquet"), "structural")
    np.testing.assert_array_equal(structural.e_form, expected)
    for name in ("e.parquet", "e.csv"):
        rows = read_rows(str(tmp_path / name), "compositional")
        assert rows.ids
        np.testing.assert_allclose(rows.e_form, [by_id[id_] for id_ in rows.ids])
    hull = snapshot_hull(str(tmp_path / "e.parquet"))
    assert set(by_id) <= set(hull.ids.to_pylist())


def test_the_hull_of_a_file_has_every_element_at_zero(tmp_path):
    entries = entries_table(sample_crystals(8))
    write_parquet(entries, tmp_path / "e.parquet")
    hull = snapshot_hull(str(tmp_path / "e.parquet"))
    absent = next(z for z in range(1, 95) if all(z not in row for row in entries["numbers"].to_pylist()))
    pair = np.zeros((1, 95))
    pair[0, [absent, absent + 1 if absent < 94 else 1]] = 1
    assert hull.e_above_hull(pair, np.array([0.25]))[0] == 0.25, f"{SYMBOLS[absent]} is in no row"
    assert hull.has_references(np.eye(95)[1:]).all()


def test_elements_without_a_compound_on_the_hull_are_told(tmp_path):
    write_parquet(entries_table(sample_crystals(8)), tmp_path / "e.parquet")  # Mo-Pu, Li-C and others; holmium alone
    hull = snapshot_hull(str(tmp_path / "e.parquet"))
    asked = np.zeros((4, 95), int)
    asked[0, [3, 42]] = asked[1, 8] = 1  # known in compounds; an element, which needs no rival
    assert without_compounds(hull, asked) == []
    asked[2, [3, 8]] = asked[3, [6, 67]] = 1
    assert without_compounds(hull, asked) == ["O", "Ho"]


def test_withheld_systems_of_the_embedded_snapshot_are_left_out_and_counted(tmp_path, monkeypatch):
    """Al-Li is withheld; in a file of one's own it is under a holdout."""
    write_parquet(embedded_entries({"Al", "Li"}), tmp_path / "snapshot.parquet")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    everything = read_rows("embedded", "structural")
    compounds = everything.systems.count("Al-Li")
    assert compounds
    for source, holdout, withheld in (
        ("embedded", "none", compounds),
        (str(tmp_path / "snapshot.parquet"), "none", 0),
        (str(tmp_path / "snapshot.parquet"), "holdout-v1", compounds),
    ):
        rows = labelled_rows(source, "structural", holdout)
        assert (len(rows), rows.rejected["withheld_system"]) == (len(everything) - withheld, withheld)


def test_what_is_left_out_is_counted_and_the_first_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,formula,e_form_per_atom\na,LiF,-3.1\nb,nonsense!,-1\nc,NaCl,None\nd,KCl,40\n" + "e,xx,\n" * 9)
    rows = labelled_rows(str(path), "compositional", "none")
    assert rows.ids == ["a"]
    assert +rows.rejected == {"bad_formula": 10, "no_label": 1, "implausible_label": 1}
    assert len(rows.examples) == 5
    assert rows.examples[0].startswith(f"{path}, row 1: 'nonsense!'")
    path.write_text("id,formula,e_form_per_atom\na,LiF,-3.1\nc,NaCl,None\n")
    assert labelled_rows(str(path), "compositional", "none").examples == (f"{path}: c: it has no formation energy",)


def test_own_files_are_read_as_they_are(tmp_path):
    table = entries_table(sample_crystals(3))
    pq.write_table(table, tmp_path / "e.parquet")
    assert read_rows(str(tmp_path / "e.parquet"), "structural").ids == table["id"].to_pylist()
