"""How the embedded snapshot is made of relaxed crystals, and what its page says of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dft.tables import job_digest, protocol_json
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, as_entries, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import elemental_entries, embedded_entries
from gnome_core.crystals.writers import write_parquet, write_snapshot
from tests.gnome_core.potentials.samples import FCC
from tests.gnome_core.stability.samples import salt
from tools import embedded_snapshot
from tools.embedded_snapshot import OUTCOME_SCHEMA, POINT_SCHEMA, finished, waiting, write

PAGE = Path(__file__).parents[2] / "docs" / "snapshot.md"
ASKED_SCHEMA = pa.schema([*CRYSTAL_FIELDS, pa.field("source", pa.string()), pa.field("e_form_per_atom", pa.float64())])


def supercell(crystal: Crystal, n: int) -> Crystal:
    """n cells along the first vector."""
    lattice = crystal.lattice * [[n], [1], [1]]
    places = [(site + [k, 0, 0]) / [n, 1, 1] for k in range(n) for site in crystal.frac_coords]
    return Crystal(lattice, places, list(crystal.numbers) * n)


def test_what_is_relaxed_is_not_taken_up_again_and_the_smallest_come_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedded_snapshot, "BATCH_ATOMS", 6)
    starts = {f"x{n}": supercell(Crystal(3.6 * FCC, [[0, 0, 0]], [29]), n) for n in (5, 3, 1, 2, 4)}
    schema = pa.schema([OUTCOME_SCHEMA.field("id")])
    taken = []
    for part in waiting(tmp_path, starts, list(starts), "crystals"):
        taken.append(part)
        if len(taken) == 2:
            break  # killed before it has written the second
        write_parquet(pa.table([part], schema=schema), tmp_path / f"{part[0]}.parquet")
    again = []
    for part in waiting(tmp_path, starts, list(starts), "crystals"):
        again.append(part)
        write_parquet(pa.table([part], schema=schema), tmp_path / f"{part[0]}.parquet")
    assert taken == [["x1", "x2", "x3"], ["x4"]]
    assert again == [["x4"], ["x5"]]
    assert "crystals: 5 of 5, up to 5 atoms" in capsys.readouterr().out
    assert list(waiting(tmp_path, starts, list(starts), "crystals")) == []


def test_the_snapshot_is_what_is_sound_once_each_and_counts_the_rest(tmp_path, monkeypatch, capsys):
    elements = {row["chemsys"]: row["energy_per_atom"] for row in elemental_entries().to_pylist()}
    reference = (elements["Na"] + elements["Cl"]) / 2
    large = supercell(Crystal(3.35 * np.eye(3), [[0, 0, 0], [0.5] * 3], [11, 17]), 13)  # 26 atoms, as caesium chloride
    bcc = 2.87 * (np.ones((3, 3)) / 2 - np.eye(3))
    # (crystal, formation energy or None where the relaxation failed)
    rows = {
        "salt": (salt(2.8), -2.0),
        "same": (supercell(salt(2.81), 2), -1.99),
        "thin": (salt(4.3), -1.9),
        "failed": (salt(2.7), None),
        "large": (large, -1.5),
        "below": (Crystal(3.6 * FCC, [[0, 0, 0]], [29]), elements["Cu"] - 1e-4),
        "odd": (Crystal(bcc, [[0, 0, 0]], [29]), elements["Cu"] + 0.3),
    }
    # Not relaxed yet: a single point is there, as of one that is.
    later = supercell(Crystal(3.7 * np.eye(3), [[0, 0, 0], [0.5] * 3], [17, 19]), 13)
    points = {"later": (elements["K"] + elements["Cl"]) / 2 - 2.0, "large": reference - 3.0, "unjudged": None}
    ids, crystals = list(rows), [crystal for crystal, _ in rows.values()]
    energies = [e if e is None or crystal.numbers[0] == 29 else e + reference for crystal, e in rows.values()]
    outcomes = record_batch(
        OUTCOME_SCHEMA,
        ids,
        crystals,
        energy_per_atom=energies,
        reason=["not_converged" if e is None else "" for e in energies],
        job=[f"job-{id_}" for id_ in ids],
    )
    (tmp_path / "relaxed").mkdir()
    write_parquet(pa.Table.from_batches([outcomes]), tmp_path / "relaxed" / "all.parquet")
    (tmp_path / "points").mkdir()
    write_parquet(
        pa.table([list(points), list(points.values())], schema=POINT_SCHEMA), tmp_path / "points" / "all.parquet"
    )
    asked = record_batch(
        ASKED_SCHEMA, [*ids, "later"], [*crystals, later], source="mp", e_form_per_atom=[-2.1, *[None] * 7]
    )
    monkeypatch.setattr(embedded_snapshot, "FILE", tmp_path / "snapshot.parquet")
    write(tmp_path, pa.Table.from_batches([asked]))
    made = as_entries(pq.read_table(tmp_path / "snapshot.parquet"))
    assert made.schema == ENTRY_SCHEMA
    found = {row["id"]: row for row in made.to_pylist() if row["id"] in {*rows, "later"}}
    assert set(found) == {"salt", "odd", "later"}
    assert len(made) == 3 + len(elemental_entries())
    assert found["later"]["e_form_per_atom"] == pytest.approx(-2.0)
    assert found["later"]["job"] is None
    assert found["salt"]["e_form_per_atom"] == pytest.approx(-2.0)
    assert found["salt"]["reference_e_form_per_atom"] == -2.1
    assert (found["salt"]["job"], found["salt"]["source"]) == ("job-salt", "mp")
    said = capsys.readouterr().out
    assert "7 of 8 crystals were relaxed, 1 others have a single point" in said
    for count in (
        "'not_converged': 1",
        "'implausible_volume': 1",
        "'not_above_reference': 1",
        "'duplicate': 1",
        "'large_and_unstable': 1",
    ):
        assert count in said


def test_what_the_snapshot_has_is_relaxed_if_it_began_alike(tmp_path, monkeypatch):
    evaluator = embedded_snapshot.embedded()
    job = job_digest(salt(2.8), protocol_json(evaluator.protocol))
    entries = record_batch(
        ENTRY_SCHEMA,
        ["salt", "moved", "absent"],
        [salt(2.75)] * 3,
        energy_per_atom=-3.5,
        correction_per_atom=0.0,
        e_form_per_atom=-2.0,
        formula="NaCl",
        chemsys="Cl-Na",
        energy_kind="total",
        scale=evaluator.scale,
        source="mp",
        round=0,
        job=job,
    )
    monkeypatch.setattr(embedded_snapshot, "FILE", tmp_path / "snapshot.parquet")
    write_snapshot(pa.Table.from_batches([entries]), tmp_path / "snapshot.parquet")
    embedded_snapshot.take_shipped(tmp_path, evaluator, {"salt": salt(2.8), "moved": salt(2.9)})
    taken = finished(tmp_path / "relaxed", OUTCOME_SCHEMA).to_pylist()
    assert [(row["id"], row["energy_per_atom"], row["reason"]) for row in taken] == [("salt", -3.5, "")]
    assert list(waiting(tmp_path / "relaxed", {"salt": salt(2.8)}, ["salt"], "crystals")) == []


def test_the_page_says_what_the_snapshot_holds():
    entries = embedded_entries()
    systems = set(entries["chemsys"].to_pylist())
    elements = {symbol for system in systems for symbol in system.split("-")}
    assert len(entries) >= 25_000
    assert len(elements) >= 85
    page = " ".join(PAGE.read_text().split())
    assert f"{len(entries):,} crystals of {len(systems):,} chemical systems and {len(elements)} elements" in page
    assert len(set(entries["id"].to_pylist())) == len(entries)
