"""Snapshots whose elements lack a reference, and crystals that the evaluator cannot judge."""

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, ENTRY_SCHEMA, as_entries, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import SCALE, Rejected, embedded_entries
from gnome_core.stability.hull import Hull
from pipelines.beam.dead_letters import DEAD_SCHEMA
from pipelines.cli.config import round_config
from pipelines.errors import UserError
from pipelines.potentials.read_frames import read_frames
from pipelines.reading.dead import dead_rows
from pipelines.reading.schemas import HULL_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.config import load_config
from pipelines.rounds.verify import verify
from pipelines.stages.snapshot_labelled import checked_entries
from pipelines.stages.snapshot_survey import lost_references
from pipelines.store.store import Store
from tests.gnome_core.potentials.samples import FCC
from tests.gnome_core.stability.samples import salt, tetrafluoride


def test_a_missing_reference_is_added_or_its_element_named(tiny, tmp_path):
    entries = pq.read_table(tiny / "snapshot.parquet")
    without_lithium = entries.filter(pc.not_equal(entries["chemsys"], "Li"))
    polonide = without_lithium.slice(0, 1).to_pylist()[0] | {
        "id": "polonide",
        "numbers": [12, 84],
        "frac_coords": [0.0] * 3 + [0.5] * 3,
        "formula": "MgPo",
        "chemsys": "Mg-Po",
    }
    table = pa.concat_tables([without_lithium, pa.Table.from_pylist([polonide], schema=without_lithium.schema)])
    pq.write_table(table, tmp_path / "snapshot.parquet")
    config = load_config(str(tiny / "round.toml")).model_copy(update={"snapshot": str(tmp_path / "snapshot.parquet")})
    store = driver.init_store(str(tmp_path / "store"), config)
    for _ in driver.run_stages(store, 0, ["snapshot", "hull"]):
        pass
    counts = store.commit(0, "snapshot").counts
    assert counts.dead == {"missing_reference_Po": 1}
    (dead,) = dead_rows(store, store.commit(0, "snapshot").files)
    assert dead.key == "polonide"
    assert "there is no usable crystal of Po alone" in dead.message
    assert (counts.n_in, counts.n_out) == (len(table), len(table) - 1)
    references = store.read_table(store.commit(0, "snapshot"), "references", ENTRY_SCHEMA)
    assert references["chemsys"].to_pylist() == ["Li"]
    hull = store.read_table(store.commit(0, "hull"), "hull", HULL_SCHEMA)
    assert len(hull) == len(table)
    assert pc.min(hull["e_above_hull"]).as_py() > -1e-6


def evaluated(tiny, tmp_path, crystals: dict[str, Crystal], **evaluation) -> Store:
    """A store whose snapshot is these crystals, evaluated with the tiny round's settings but for `evaluation`."""
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), list(crystals), list(crystals.values()))
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "crystals.parquet")
    config = load_config(str(tiny / "round.toml"))
    changed = {"snapshot": str(tmp_path / "crystals.parquet")}
    changed["evaluation"] = config.evaluation.model_copy(update=evaluation)
    store = driver.init_store(str(tmp_path / "store"), config.model_copy(update=changed))
    for _ in driver.run_stages(store, 0, ["snapshot"]):
        pass
    return store


def test_crystals_that_the_evaluator_cannot_judge_are_rejected_by_name(tiny, tmp_path):
    salt = Crystal(5.6 * FCC, [[0, 0, 0], [0.5] * 3], [12, 8])
    polonide = Crystal(salt.lattice, salt.frac_coords, [12, 84])
    vacuum = Crystal(20.0 * np.eye(3), [[0, 0, 0]], [12])
    magnesium = Crystal(4.5 * FCC, [[0, 0, 0]], [12])
    crystals = {"oxide": salt, "polonide": polonide, "magnesium": magnesium, "vacuum": vacuum}
    store = evaluated(tiny, tmp_path, crystals, max_steps=60)
    commit = store.commit(0, "snapshot")
    assert commit.counts.dead == {"unknown_element": 1, "isolated_atom": 1}
    dead = {row.key: row for row in dead_rows(store, commit.files)}
    assert dead["polonide"].reason == "unknown_element"
    assert "polonide (MgPo): " in dead["polonide"].message
    assert "Po" in dead["polonide"].message.partition("(MgPo): ")[2]
    assert (commit.counts.n_in, commit.counts.n_out) == (4, 2)
    entries = store.read_table(commit, "entries", ENTRY_SCHEMA)
    assert sorted(entries["id"].to_pylist()) == ["magnesium", "oxide"]
    # Magnesium's reference is the metal's energy, not that of a lone atom, and oxygen's is the package's.
    oxide = entries.filter(pc.equal(entries["id"], "oxide"))
    assert -3.2 < oxide["e_form_per_atom"][0].as_py() < -2.5
    # The ways to their minima are kept: potentials train on them as on those of rounds.
    frames = read_frames(store.root)
    last = frames.energies[[max(np.flatnonzero(frames.groups == group)) for group in np.unique(frames.groups)]]
    totals = entries["energy_per_atom"].to_numpy() * [len(numbers) for numbers in entries["numbers"].to_pylist()]
    np.testing.assert_allclose(sorted(last), sorted(totals), atol=1e-6)
    assert len(frames) > 2


def test_nonsense_is_no_entry_and_no_reference(tiny, tmp_path):
    """Relaxations that end at once, however large the forces: what comes out is what went in."""
    crystals = {
        "blown": tetrafluoride(55.0),
        "sodium": Crystal(4.2 * (np.ones((3, 3)) / 2 - np.eye(3)), [[0, 0, 0]], [11]),
        "salt": salt(2.8),
        "magnesium": Crystal(7.2 * FCC, [[0, 0, 0]], [12]),  # four times its volume
        "oxide": Crystal(4.2 * FCC, [[0, 0, 0], [0.5] * 3], [12, 8]),
    }
    store = evaluated(tiny, tmp_path, crystals, fmax=1e9)
    commit = store.commit(0, "snapshot")
    assert commit.counts.dead == {"implausible_volume": 2}
    dead = {row.key: row.message for row in dead_rows(store, commit.files)}
    assert (
        "magnesium (Mg): it went from 93.3 to 93.3 Å^3 an atom, and no known solid looks like that" in dead["magnesium"]
    )
    assert (commit.counts.n_in, commit.counts.n_out) == (5, 3)
    # The package's magnesium is there where the snapshot's own is nonsense.
    entries = store.read_table(commit, "entries", ENTRY_SCHEMA)
    (oxide,) = entries.filter(pc.equal(entries["id"], "oxide"))["e_form_per_atom"].to_pylist()
    assert -3.2 < oxide < -2.5


def test_compounds_are_measured_from_the_lowest_phase_of_their_elements(tiny, tmp_path):
    """A snapshot whose only magnesium is another phase than the metal's ground state."""
    crystals = {
        "magnesium": Crystal(3.57 * (np.ones((3, 3)) / 2 - np.eye(3)), [[0, 0, 0]], [12]),
        "oxide": Crystal(4.2 * FCC, [[0] * 3, [0.5] * 3], [12, 8]),
    }
    store = evaluated(tiny, tmp_path, crystals)
    commit = store.commit(0, "snapshot")
    entries = store.read_table(commit, "entries", ENTRY_SCHEMA)
    energies = dict(zip(entries["id"].to_pylist(), entries["e_form_per_atom"].to_pylist(), strict=True))
    assert sorted(store.read_table(commit, "references", ENTRY_SCHEMA)["chemsys"].to_pylist()) == ["Mg", "O"]
    assert 0.01 < energies["magnesium"] < 0.06, "body-centred above hexagonal"
    assert -3.2 < energies["oxide"] < -2.5


def test_elements_whose_own_crystals_were_of_no_use_are_named():
    dead = {"missing_reference_O": 3, "missing_reference_O_Xe": 1, "missing_reference_Xe": 5, "not_converged": 2}
    (line,) = lost_references(dead, [[8, 8], [12], [12, 8]])
    assert line.startswith("no reference of O: ")
    assert "4 crystals" in line
    assert lost_references({"missing_reference_Xe": 5}, [[8, 8], [12, 8]]) == [], "said before anything was evaluated"


BAD_ROWS = {
    "repeated": ({"id": "GOOD"}, "duplicate_id"),
    "nameless": ({"id": ""}, "missing_id"),
    "nan-energy": ({"energy_per_atom": float("nan")}, "not_finite"),
    "infinite-label": ({"e_form_per_atom": float("inf")}, "not_finite"),
    "nan-lattice": ({"lattice": [float("nan")] * 9}, "not_finite"),
    "flat": ({"lattice": [0.0] * 9}, "bad_lattice"),
    "one-point": ({"frac_coords": [0.0] * 6}, "overlapping_atoms"),
    "nanometres": ({"lattice": [0.42, 0, 0, 0, 0.42, 0, 0, 0, 0.42]}, "bad_lattice"),
    "short": ({"frac_coords": [0.0] * 3}, "malformed_row"),
    "unbound": ({"e_form_per_atom": -50.0}, "implausible_energy"),
    "disagreeing": ({"energy_per_atom": -3.0}, "energy_mismatch"),
    "absurd-total": ({"energy_per_atom": 123.0}, "implausible_energy"),
    "misnamed": ({"formula": "Fe2O3"}, "formula_mismatch"),
    "elsewhere": ({"chemsys": "Fe-O"}, "formula_mismatch"),
    "beyond-the-table": ({"numbers": [3, 200]}, "unknown_element"),
    "formation": ({"energy_kind": "formation"}, "unknown_energy"),
}


def test_rows_of_a_labelled_snapshot_are_checked_one_by_one(tiny, tmp_path):
    entries = pq.read_table(tiny / "snapshot.parquet")
    pair = pc.equal(pc.list_value_length(entries["numbers"]), 2)
    good = entries.filter(pc.and_(pair, pc.equal(entries["chemsys"], "Li-Mg"))).to_pylist()[0]
    bad = [good | {"id": name} | change for name, (change, _) in BAD_ROWS.items()]
    bad[0]["id"] = good["id"]
    # Of another store: its rounds and parents are none of this one's.
    found = entries.to_pylist()[-1] | {"id": "found", "round": 7, "parent": "gone"}
    table = pa.concat_tables([entries, pa.Table.from_pylist([*bad, found], schema=entries.schema)])
    pq.write_table(table, tmp_path / "snapshot.parquet")
    config = load_config(str(tiny / "round.toml")).model_copy(update={"snapshot": str(tmp_path / "snapshot.parquet")})
    store = driver.init_store(str(tmp_path / "store"), config)
    for _ in driver.run_stages(store, 0, ["snapshot", "hull"]):
        pass
    commit = store.commit(0, "snapshot")
    assert commit.counts.dead == Counter(reason for _, reason in BAD_ROWS.values())
    assert (commit.counts.n_in, commit.counts.n_out) == (len(table), len(entries) + 1)
    letters = store.read_table(commit, "dead", DEAD_SCHEMA)
    assert {row["key"]: row["reason"] for row in letters.to_pylist() if row["key"] in BAD_ROWS} == {
        name: reason for name, (_, reason) in BAD_ROWS.items() if name not in ("repeated", "nameless")
    }
    assert all("snapshot.parquet, row" in text for text in letters["message"].to_pylist() if "again" not in text)
    kept = store.read_table(commit, "entries", ENTRY_SCHEMA).sort_by("id").to_pylist()
    assert [row for row in kept if row["id"] != "found"] == as_entries(entries).sort_by("id").to_pylist()
    assert [(row["round"], row["parent"]) for row in kept if row["id"] == "found"] == [(0, None)]
    assert list(verify(store)) == []


def test_labels_are_against_the_references_that_the_store_will_use(tiny, tmp_path):
    """A file from a store whose snapshot had another lithium: 0.04 eV/atom is no fault, a whole eV is one."""
    entries = pq.read_table(tiny / "snapshot.parquet")
    lithium = entries.filter(pc.equal(entries["chemsys"], "Li")).sort_by("energy_per_atom").to_pylist()[0]

    def checked(lower: float):
        row = lithium | {"id": "lower", "energy_per_atom": lithium["energy_per_atom"] - lower}
        table = pa.concat_tables([entries, pa.Table.from_pylist([row], schema=entries.schema)])
        return checked_entries(table, "file", lithium["scale"])

    before = {row["id"]: row for row in entries.to_pylist()}
    kept, _ = checked(0.04)
    for row in kept.to_pylist():
        n_lithium = row["numbers"].count(3) / len(row["numbers"])
        expected = before.get(row["id"], lithium)["e_form_per_atom"] + 0.04 * n_lithium * (row["id"] != "lower")
        assert abs(row["e_form_per_atom"] - expected) < 1e-9
    kept, items = checked(1.0)
    wrong = {item.reason for item in items if isinstance(item, Rejected)}
    assert wrong == {"energy_mismatch"}
    assert "lower" in kept["id"].to_pylist(), "which of the two is wrong nobody can tell: all that disagree are named"


def test_a_labelled_snapshot_without_a_usable_row_says_why(tiny, tmp_path):
    entries = pq.read_table(tiny / "snapshot.parquet")
    nothing = entries.set_column(6, entries.schema.field("energy_per_atom"), pa.array([float("nan")] * len(entries)))
    pq.write_table(nothing, tmp_path / "snapshot.parquet")
    config = load_config(str(tiny / "round.toml")).model_copy(update={"snapshot": str(tmp_path / "snapshot.parquet")})
    store = driver.init_store(str(tmp_path / "store"), config)
    with pytest.raises(UserError, match=rf"no usable crystal among {len(entries)} rows \({len(entries)} not_finite\)"):
        list(driver.run_stages(store, 0, ["snapshot"]))


def test_a_chemical_system_has_the_hull_that_the_whole_embedded_snapshot_has(tiny, tmp_path):
    """`gnome init --chemsys Li-P-S-Cl`."""
    store = driver.init_store(str(tmp_path / "store"), round_config(tiny / "round.toml", chemsys="Li-P-S-Cl"))
    list(driver.run_stages(store, 0, ["snapshot", "hull"]))
    commit = store.commit(0, "snapshot")
    entries = store.read_table(commit, "entries", ENTRY_SCHEMA)
    assert commit.counts.rejected == {}
    assert {symbol for system in entries["chemsys"].to_pylist() for symbol in system.split("-")} == {
        "Li",
        "P",
        "S",
        "Cl",
    }
    whole = Hull.from_table(embedded_entries())
    above = whole.e_above_hull(atom_counts(entries["numbers"]), entries["e_form_per_atom"].to_numpy())
    hull = store.read_table(store.commit(0, "hull"), "hull", HULL_SCHEMA)
    found = dict(zip(hull["id"].to_pylist(), hull["e_above_hull"].to_pylist(), strict=True))
    assert found == pytest.approx(dict(zip(entries["id"].to_pylist(), above.tolist(), strict=True)), abs=1e-9)
    stable = {formula for formula, e in zip(entries["formula"].to_pylist(), above, strict=True) if e <= 1e-9}
    assert {"Li2S", "LiCl"} < stable


def test_a_snapshot_is_read_for_some_elements(tiny, tmp_path):
    """What holds another element is counted."""
    entries = pq.read_table(tiny / "snapshot.parquet")
    inside = [system in ("Li", "Mg", "Li-Mg") for system in entries["chemsys"].to_pylist()]
    config = load_config(str(tiny / "round.toml")).model_copy(
        update={"snapshot": str(tiny / "snapshot.parquet"), "snapshot_elements": ("Li", "Mg")}
    )
    store = driver.init_store(str(tmp_path / "store"), config)
    list(driver.run_stages(store, 0, ["snapshot"]))
    commit = store.commit(0, "snapshot")
    assert (commit.counts.n_in, commit.counts.n_out) == (len(entries), sum(inside))
    assert commit.counts.rejected == {"other_elements": len(entries) - sum(inside)}
    kept = store.read_table(commit, "entries", ENTRY_SCHEMA)
    assert kept.sort_by("id").equals(as_entries(entries.filter(pa.array(inside))).sort_by("id"))


NO_NICKEL = rf"neither .* nor the package has a crystal of Ni alone on {re.escape(SCALE)}, which"


@pytest.mark.parametrize(
    ("crystals", "elements", "complaint"),
    [
        ("labelled", ("Li", "Ni"), NO_NICKEL),
        ("unlabelled", ("Li", "Ni"), NO_NICKEL),
        ("unlabelled", ("Fe",), r"no usable crystal of Fe among 25 rows; see"),
    ],
    ids=["labelled", "unlabelled", "nothing"],
)
def test_elements_that_a_file_lacks_are_named(crystals, elements, complaint, tiny, tmp_path):
    entries = pq.read_table(tiny / "snapshot.parquet")
    if crystals == "unlabelled":
        entries = entries.select(["id", "lattice", "frac_coords", "numbers"])
    pq.write_table(entries, tmp_path / "snapshot.parquet")
    config = load_config(str(tiny / "round.toml")).model_copy(
        update={"snapshot": str(tmp_path / "snapshot.parquet"), "snapshot_elements": elements}
    )
    store = driver.init_store(str(tmp_path / "store"), config)
    with pytest.raises(UserError, match=complaint):
        list(driver.run_stages(store, 0, ["snapshot"]))
    assert store.commit(0, "snapshot") is None
