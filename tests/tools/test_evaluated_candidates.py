"""Evaluated candidates under another evaluator's energies."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import evaluated_entries
from gnome_core.crystals.writers import write_parquet
from pipelines.evaluation.relaxing import RELAXED_SCHEMA
from tools import evaluated_candidates


def test_they_keep_the_geometry_they_were_proposed_with(tmp_path, monkeypatch, capsys):
    before = evaluated_entries().slice(0, 5)
    proposed = list(crystals_from_batch(before))
    moved = [Crystal(1.01 * one.lattice, one.frac_coords, one.numbers) for one in proposed]
    moved[2] = Crystal(3 * moved[2].lattice, moved[2].frac_coords, moved[2].numbers)  # no solid is so thin
    energies = [-3.0, -3.1, -3.2, None, -3.4]
    relaxed = record_batch(
        RELAXED_SCHEMA,
        before["id"].to_pylist(),
        moved,
        formula=before["formula"].to_pylist(),
        chemsys=before["chemsys"].to_pylist(),
        status=["not_converged" if e is None else "done" for e in energies],
        message=[""] * 5,
        energy_per_atom=energies,
        correction_per_atom=[-0.1, None, None, None, None],
        e_form_per_atom=[e and e / 10 for e in energies],
        steps=[9] * 5,
        scale="another",
    )
    write_parquet(pa.Table.from_batches([relaxed]), tmp_path / "relaxed.parquet")
    pq.write_table(before, tmp_path / "evaluated.parquet")
    monkeypatch.setattr(evaluated_candidates, "FILE", tmp_path / "evaluated.parquet")
    evaluated_candidates.evaluated_again([str(tmp_path / "relaxed.parquet")])
    after = pq.read_table(tmp_path / "evaluated.parquet", schema=ENTRY_SCHEMA)
    kept = [row for row in before.to_pylist() if row["id"] in set(after["id"].to_pylist())]
    assert len(kept) == 3
    by_id = {row["id"]: row for row in after.to_pylist()}
    for row in kept:
        made = by_id[row["id"]]
        assert (made["lattice"], made["frac_coords"]) == (row["lattice"], row["frac_coords"])
        assert made["scale"] == "another"
        assert made["e_form_per_atom"] == pytest.approx(made["energy_per_atom"] / 10)
    corrections = {row["id"]: row["correction_per_atom"] for row in after.to_pylist()}
    assert sorted(corrections.values()) == [-0.1, 0.0, 0.0]
    said = capsys.readouterr().out
    assert "2 of 5 left out" in said
    assert "'not_converged': 1" in said


def test_those_of_stores_join_the_packages_of_their_scale(tmp_path, monkeypatch, capsys):
    own = evaluated_entries().slice(0, 8)
    place = own.schema.get_field_index("chemsys")
    systems = ["Al-Li" if row == 7 else system for row, system in enumerate(own["chemsys"].to_pylist())]
    found = {"a": own.slice(2, 3), "b": own.set_column(place, ENTRY_SCHEMA.field(place), pa.array(systems)).slice(4, 4)}
    monkeypatch.setattr(evaluated_candidates, "Store", str)
    monkeypatch.setattr(evaluated_candidates, "candidates", found.get)
    monkeypatch.setattr(evaluated_candidates, "FILE", tmp_path / "evaluated.parquet")
    pq.write_table(own.slice(0, 4), tmp_path / "evaluated.parquet")
    evaluated_candidates.from_stores(["a", "b"])
    after = pq.read_table(tmp_path / "evaluated.parquet", schema=ENTRY_SCHEMA)
    assert after["id"].to_pylist() == sorted(own["id"].to_pylist()[:7]), "each once, none of a withheld system"
    assert "1 of 8 are of withheld systems and left out" in capsys.readouterr().out
    other = own.slice(0, 1)
    place = own.schema.get_field_index("scale")
    found["c"] = other.set_column(place, ENTRY_SCHEMA.field(place), pa.array(["another"]))
    with pytest.raises(SystemExit, match="one evaluator's energies"):
        evaluated_candidates.from_stores(["a", "c"])
