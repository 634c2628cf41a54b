"""Several sources of known crystals become one snapshot on one scale."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import SCALE
from gnome_core.potentials.default import DEFAULT
from pipelines.beam import progress
from pipelines.cli.config import round_config
from pipelines.errors import UserError
from pipelines.reading.schemas import MERGED_SCHEMA, ORIGIN_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.verify import verify
from tests.gnome_core.potentials.samples import FCC


@pytest.fixture
def told(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(progress, "_watching", [lines.append])
    return lines


def snapshot(folder, tiny, *sources, chemsys=None, **settings):
    config = round_config(tiny / "round.toml", snapshots=[str(source) for source in sources], chemsys=chemsys)
    store = driver.init_store(str(folder / "store"), config.model_copy(update=settings))
    list(driver.run_stages(store, 0, ["snapshot"]))
    commit = store.commit(0, "snapshot")
    assert list(verify(store)) == []
    tables = {"entries": ENTRY_SCHEMA, "merged": MERGED_SCHEMA, "origins": ORIGIN_SCHEMA}
    return commit, {name: store.read_table(commit, name, schema) for name, schema in tables.items()}


def lower(row: dict, by: float) -> dict:
    return row | {name: row[name] - by for name in ("energy_per_atom", "e_form_per_atom")}


def write(path, rows, schema):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_of_a_structure_that_two_labelled_sources_hold_the_lower_stays(tiny, tmp_path, told):
    known = pq.read_table(tiny / "snapshot.parquet")
    rows = {row["id"]: row for row in known.to_pylist()}
    binaries = [row for row in rows.values() if row["formula"] in ("Li3Cu", "MgCu")]
    better, worse = lower(binaries[0], 0.01), lower(binaries[1], -0.01) | {"id": "worse"}
    stretched = lower(binaries[0], -0.02) | {"id": "twin", "lattice": (1.01 * np.array(better["lattice"])).tolist()}
    mine = write(tmp_path / "mine.parquet", [better, worse, stretched], known.schema)
    commit, tables = snapshot(tmp_path, tiny, tiny / "snapshot.parquet", mine)
    assert (commit.counts.n_in, commit.counts.n_out) == (len(known) + 3, len(known))
    assert commit.counts.rejected == {"same_structure": 3}
    kept = {row["id"]: row for row in tables["entries"].to_pylist()}
    same = {row["id"]: row["same_as"] for row in tables["merged"].to_pylist()}
    name = f"{better['id']}@2"  # the first source has that id already
    assert same == {better["id"]: name, "twin": name, "worse": binaries[1]["id"]}
    assert kept[name]["e_form_per_atom"] == pytest.approx(better["e_form_per_atom"], abs=1e-9)
    assert set(kept) == set(rows) - {better["id"]} | {name}
    places = {row["id"]: row for row in tables["origins"].to_pylist()}
    assert places[name] == {
        "id": name,
        "snapshot": str(mine),
        "given_id": better["id"],
        "formula": better["formula"],
    }
    assert len(places) == len(known) + 3
    assert [line.split(": ")[1] for line in told[:2]] == [
        f"25 crystals; their energies are on {SCALE} and are used",
        f"3 crystals; their energies are on {SCALE} and are used",
    ]


def test_crystals_without_energies_are_evaluated_beside_those_with_and_merged_with_them(tiny, tmp_path, told):
    known = pq.read_table(tiny / "snapshot.parquet").filter(pc.field("chemsys") != "Cu")
    rows = {row["id"]: row for row in known.to_pylist()}
    copper = next(row for row in rows.values() if row["formula"] == "MgCu")
    twin = Crystal(1.01 * np.array(copper["lattice"]).reshape(3, 3), copper["frac_coords"], copper["numbers"])
    oxide = Crystal(4.25 * FCC, [[0, 0, 0], [0.5] * 3], [12, 8])
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), ["twin", "oxide", "oxide-again"], [twin, oxide, oxide])
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "mine.parquet")
    labelled = write(tmp_path / "known.parquet", list(rows.values()), known.schema)
    commit, tables = snapshot(tmp_path, tiny, labelled, tmp_path / "mine.parquet")
    assert commit.counts.rejected == {"same_crystal": 1, "same_structure": 1}
    assert (commit.counts.n_in, commit.counts.n_out) == (len(rows) + 3, len(rows) + 1)
    assert commit.metrics["evaluated"] == 2
    assert commit.metrics["references_added"] == 2, "copper and oxygen"
    kept = {row["id"]: row for row in tables["entries"].to_pylist()}
    merged = tables["merged"].to_pylist()
    assert {(row["id"], row["same_as"]) for row in merged} <= {("twin", copper["id"]), (copper["id"], "twin")}
    (gone,) = merged
    assert kept[gone["same_as"]]["e_form_per_atom"] <= gone["e_form_per_atom"]
    assert set(kept) == set(rows) | {"twin", "oxide"} - {gone["id"]}
    assert {row["scale"] for row in kept.values()} == {SCALE}
    for id_, row in kept.items():  # copper's reference is the package's, not a difference of two
        if id_ in rows and row["formula"] != "MgCu":
            assert row["e_form_per_atom"] == pytest.approx(rows[id_]["e_form_per_atom"], abs=1e-4)
    assert f"{tmp_path}/mine.parquet: 3 crystals; without energies on {SCALE}, which {DEFAULT} computes" in told
    (work,) = [line for line in told if "to be evaluated" in line]
    assert work.startswith(f"2 crystals (6 atoms) to be evaluated by {DEFAULT}: about ")
    assert any(line.endswith("s an atom") for line in told)
    assert any(line.startswith("Cu-Li-Mg-O: ") and "of 6 binary systems; none in" in line for line in told)


def test_energies_of_another_scale_are_never_mixed_in(tiny, tmp_path, told):
    known = pq.read_table(tiny / "snapshot.parquet")
    alloy = next(row for row in known.to_pylist() if row["formula"] == "LiMg2")
    foreign = lower(alloy, 3.0) | {"id": "foreign", "scale": "pbe", "e_form_per_atom": -1.0}
    other = write(tmp_path / "pbe.parquet", [foreign], known.schema)
    commit, tables = snapshot(tmp_path, tiny, tiny / "snapshot.parquet", other)
    assert set(tables["entries"]["scale"].to_pylist()) == {SCALE}
    assert min(tables["entries"]["e_form_per_atom"].to_pylist()) > -0.2
    assert commit.metrics["evaluated"] == 1
    assert commit.metrics["labels_kept"] == 1
    assert commit.counts.rejected == {"same_structure": 1}
    assert any("formation energies of 1 are kept beside" in line for line in told)


def test_a_system_without_references_is_refused_with_the_remedy_before_anything_is_evaluated(tiny, tmp_path):
    polonide = Crystal(6.5 * FCC, [[0, 0, 0], [0.5] * 3], [12, 84])
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), ["polonide"], [polonide])
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "mine.parquet")
    complaint = rf"has a crystal of Po alone on {re.escape(SCALE)}; add them, with `--snapshot"
    with pytest.raises(UserError, match=complaint):
        snapshot(tmp_path, tiny, tmp_path / "mine.parquet")


def test_one_snapshot_is_computed_again_not_several(tiny, tmp_path):
    with pytest.raises(UserError, match="recompute = true chooses by the labels of one snapshot"):
        round_config(tiny / "round.toml", snapshots=["embedded", str(tiny / "snapshot.parquet")], recompute=True)
