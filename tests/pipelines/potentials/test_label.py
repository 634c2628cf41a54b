"""Which crystals are labelled."""

from importlib import resources

from gnome_core.crystals.readers import embedded_entries
from gnome_core.crystals.writers import write_parquet
from pipelines.potentials.label import label_jobs


def test_withheld_systems_of_the_embedded_snapshot_are_not_labelled(tmp_path, monkeypatch):
    """Al-Li is withheld; in a file of one's own it is labelled."""
    entries = embedded_entries({"Al", "Li"})
    compounds = entries["chemsys"].to_pylist().count("Al-Li")
    assert compounds
    write_parquet(entries, tmp_path / "snapshot.parquet")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    for source, withheld in (("embedded", compounds), (str(tmp_path / "snapshot.parquet"), 0)):
        jobs, letters, left_out = label_jobs(source, "{}", 0, 0.0, 0.0, 0, frozenset())
        assert (len(jobs), letters) == (len(entries) - withheld, [])
        assert +left_out == ({"withheld_system": compounds} if withheld else {})
