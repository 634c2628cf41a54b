"""How elemental references are chosen, and the files that the tool has made."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dft.evaluators.chgnet import CHGNetEvaluator
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal, shortest_distance
from gnome_core.crystals.readers import elemental_entries, embedded_entries
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.stability.plausible import implausible_geometry
from tests.gnome_core.potentials.samples import FCC, published
from tools import element_references
from tools.element_references import (
    MARGIN,
    crystals_of,
    evaluate,
    known,
    labelled_compounds,
    lowest_rows,
    nitride_errors,
    nitrides,
    per_element,
    plausible,
    relabelled,
    table_of,
    untrusted,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

CHGNET = "chgnet-0.3.0"


def entries(*rows: tuple[str, Crystal, float, float]) -> pa.Table:
    """(id, crystal, eV/atom, formation energy) as a table of entries."""
    ids, crystals, energies, e_form = map(list, zip(*rows, strict=True))
    names = ["-".join(sorted({SYMBOLS[z] for z in crystal.numbers})) for crystal in crystals]
    batch = record_batch(
        ENTRY_SCHEMA,
        ids,
        crystals,
        formula=names,
        chemsys=names,
        energy_per_atom=energies,
        correction_per_atom=0.0,
        e_form_per_atom=e_form,
        energy_kind="total",
        scale=CHGNET,
        source="test",
        round=0,
    )
    return pa.Table.from_batches([batch])


def metal(symbol: str, a: float) -> Crystal:
    return Crystal(a * FCC, [[0, 0, 0]], [NUMBERS[symbol]])


COPPER, SILVER = metal("Cu", 3.6), metal("Ag", 4.1)
ALLOY = Crystal(3.85 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], [29, 47, 47, 47])


def test_the_lowest_trusted_polymorph_becomes_the_reference():
    today = entries(("cu", COPPER, -4.08, 0.0), ("ag", SILVER, -2.8, 0.0), ("hg", metal("Hg", 7.0), -0.25, 0.0))
    better = entries(
        ("cu-2", metal("Cu", 3.61), -4.09, 0.0),
        ("cu-3", metal("Cu", 3.62), -4.085, 0.0),
        ("ag-2", SILVER, -2.8 - MARGIN / 2, 0.0),  # as good as today's
        ("hg-2", metal("Hg", 5.0), -0.2, 0.0),  # today's is a cell blown up to three times its volume
        ("pd", metal("Pd", 3.9), -5.2, 0.0),
    )
    lowest = {29: -4.1, 47: -2.8, 80: -0.3, 46: -5.2}
    assert lowest_rows(today, better.to_pylist(), lowest)["id"].to_pylist() == ["cu-2", "pd", "ag", "hg-2"]


@pytest.mark.parametrize(("crystal", "energy", "refused"), [
    (COPPER, -4.1, False), (COPPER, -4.19, True), (metal("Cu", 5.4), -4.0, True), (metal("Cu", 9.0), -4.0, True),
])  # fmt: skip
def test_where_the_evaluator_extrapolates_it_is_not_trusted(crystal, energy, refused):
    assert untrusted(crystal, energy, {29: -4.1}) is refused


def test_an_element_whose_ground_state_is_not_known_leaves():
    rows = entries(("cu", COPPER, -4.0, 0.0), ("ag", SILVER, -2.5, 0.0), ("pd", metal("Pd", 3.9), -5.2, 0.0))
    assert known(rows, {29: -4.1, 47: -2.8})["id"].to_pylist() == ["cu", "pd"]


def test_only_entries_of_changed_elements_change():
    nickel = metal("Ni", 3.5)
    snapshot = entries(
        ("ag", SILVER, -2.8, 0.0),
        ("alloy", ALLOY, -3.2, -0.08),
        ("cu", COPPER, -4.08, 0.0),
        ("ni", nickel, -5.7, 0.0),
        ("ni-2", nickel, -5.5, 0.1 + 0.1),
    )
    elements = entries(("cu-2", metal("Cu", 3.61), -4.1, 0.0), ("ag", SILVER, -2.8, 0.0), ("pd", nickel, -5.7, 0.0))
    found = {row["id"]: row for row in relabelled(snapshot, elements).to_pylist()}
    before = {row["id"]: row for row in snapshot.to_pylist()}
    assert set(found) == {*before, "cu-2"}
    assert [id_ for id_ in before if found[id_] != before[id_]] == ["alloy", "cu"]
    assert found["cu"]["e_form_per_atom"] == pytest.approx(0.02)
    assert found["cu-2"]["e_form_per_atom"] == 0
    assert found["alloy"]["e_form_per_atom"] == pytest.approx(-3.2 + 4.1 / 4 + 3 * 2.8 / 4)
    assert relabelled(snapshot, snapshot).equals(snapshot)


def test_entries_that_no_crystal_looks_like_leave():
    blown_up, fleeting = metal("Cu", 5.4), Crystal(3.61 * FCC, [[0, 0, 0]], [29])
    snapshot = entries(("cu", COPPER, -4.1, 0.0), ("wide", blown_up, -3.6, 0.5), ("high", fleeting, -0.5, 3.6))
    assert plausible(snapshot)["id"].to_pylist() == ["cu"]


def test_biases_of_elements_are_found_beside_broken_labels():
    rng = np.random.default_rng(0)
    counts = np.zeros((400, 20), int)
    for row in counts:
        row[rng.choice([3, 8, 9, 16], 2, replace=False)] = rng.integers(1, 5, 2)
    truth = {3: -0.02, 8: 0.3, 9: 0.0, 16: -0.45}
    shares = counts / counts.sum(axis=1, keepdims=True)
    errors = sum(shares[:, z] * bias for z, bias in truth.items()) + rng.normal(0, 0.02, 400)
    errors[::25] += 1.5
    assert per_element(counts, errors, 0.1) == pytest.approx(truth, abs=0.03)


def test_every_element_that_the_evaluator_knows_has_its_reference():
    table = elemental_entries(CHGNET)
    numbers = [set(row) for row in table["numbers"].to_pylist()]
    assert numbers == [{z} for z in range(1, 95) if z not in range(84, 89)]
    assert set(table["e_form_per_atom"].to_pylist()) == {0.0}
    crystals = crystals_from_batch(table)
    assert [implausible_geometry(crystal) for crystal in crystals] == [None] * 89
    answers = published().evaluate(crystals)
    energies = [answer.energy / crystal.n_sites for answer, crystal in zip(answers, crystals, strict=True)]
    np.testing.assert_allclose(energies, table["energy_per_atom"].to_numpy(), atol=2e-4)


def test_nitrogen_is_made_of_molecules():
    table = elemental_entries(CHGNET)
    row = table["chemsys"].to_pylist().index("N")
    crystal = crystals_from_batch(table)[row]
    assert shortest_distance(crystal, 2.0) == pytest.approx(1.11, abs=0.02)
    assert table["energy_per_atom"][row].as_py() == pytest.approx(-8.354, abs=0.002)


def test_the_embedded_snapshot_is_measured_against_the_same_references():
    snapshot, elements = embedded_entries(), table_of(elemental_entries()).energies
    own = table_of(snapshot)
    assert dict(own.energies) == pytest.approx(dict(elements), abs=0)
    energies = np.add(snapshot["energy_per_atom"].to_numpy(), snapshot["correction_per_atom"].to_numpy())
    e_form = own.formation_energy_per_atom(snapshot["numbers"], energies)
    np.testing.assert_allclose(snapshot["e_form_per_atom"].to_numpy(), e_form, atol=1e-9)


@pytest.mark.parametrize("n", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_formation_energies_of_nitrides_are_the_published_ones(n):
    path = SHARED / "mp_structures.parquet"
    if not path.exists():
        pytest.skip("mp_structures.parquet is not beside the repository")
    asked = nitrides(labelled_compounds(str(path)))
    size = np.array([len(row) for row in asked["numbers"].to_pylist()])
    asked = asked.take(pa.array(np.argsort(size, kind="stable")[:n]))
    evaluator = CHGNetEvaluator(RelaxConfig())
    outcomes = evaluate(evaluator, crystals_of(asked))
    errors = nitride_errors(evaluator, outcomes, asked, table_of(elemental_entries(CHGNET)))
    assert np.isfinite(errors).sum() >= 0.9 * n
    # Against the crystal that stood for nitrogen before, the mean was -0.38 eV/atom.
    assert np.nanmean(np.abs(errors)) < (0.06 if n >= 40 else 0.1)
    assert abs(np.nanmean(errors)) < 0.1


def test_one_command_makes_the_files_and_the_page(tmp_path, monkeypatch):
    """Three elements, nitrogen's present row too high; silver's and copper's are the shipped ones."""
    shipped = elemental_entries(CHGNET)
    of = {symbol: shipped.filter(pc.equal(shipped["chemsys"], symbol)) for symbol in ("N", "Cu", "Ag")}
    high = of["N"].to_pylist()[0] | {"id": "high", "energy_per_atom": -7.41}
    today = pa.concat_tables([of["Cu"], of["Ag"], pa.Table.from_pylist([high], schema=shipped.schema)])
    nitride = Crystal(3.82 * np.eye(3), [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], [7, 29, 29, 29])
    labelled = entries(("alloy", ALLOY, -3.1, 0.01), ("nitride", nitride, -5.0, 0.2))
    snapshot = pa.concat_tables([today, labelled.select(shipped.schema.names).cast(shipped.schema)]).sort_by("id")
    monkeypatch.setattr(element_references, "DATA", tmp_path)
    monkeypatch.setattr(element_references, "PAGES", tmp_path)
    pq.write_table(today, tmp_path / "elements.parquet")
    pq.write_table(snapshot, tmp_path / "snapshot.parquet")
    flat = {name: of["N"][name] for name in ("lattice", "frac_coords", "numbers")}
    polymorph = {"set": ["MP-PBE"], "element": ["N"], "energy_per_atom_ev": [-8.336], **flat}
    pq.write_table(pa.table(polymorph), tmp_path / "polymorphs.parquet")
    pq.write_table(labelled, tmp_path / "structures.parquet")
    pq.write_table(labelled.select(["id", "e_form_per_atom"]), tmp_path / "stable.parquet")
    sources = [str(tmp_path / f"{name}.parquet") for name in ("polymorphs", "structures", "stable")]
    element_references.main("chgnet", *sources)
    made = pq.read_table(tmp_path / "elements.parquet")
    assert made["id"].to_pylist() == ["polymorph-N-1", of["Cu"]["id"][0].as_py(), of["Ag"]["id"][0].as_py()]
    assert made["energy_per_atom"][0].as_py() == pytest.approx(of["N"]["energy_per_atom"][0].as_py(), abs=MARGIN)
    rows = {row["id"]: row["e_form_per_atom"] for row in pq.read_table(tmp_path / "snapshot.parquet").to_pylist()}
    assert rows["high"] == pytest.approx(-7.41 + 8.354, abs=0.002)
    assert rows["alloy"] == 0.01
    copper = of["Cu"]["energy_per_atom"][0].as_py()
    assert rows["nitride"] == pytest.approx(-5.0 - (3 * copper - 8.354) / 4, abs=0.002)
    page = (tmp_path / "chgnet.md").read_text()
    assert "1 nitrides without other anions" in page
    assert "| N | polymorph-N-1 | 8 | -8.35" in page
    before = (tmp_path / "elements.parquet").read_bytes()
    element_references.main("chgnet", *sources)
    assert (tmp_path / "elements.parquet").read_bytes() == before


@pytest.mark.parametrize("name", ["chgnet", "chgnet-distilled", "nequix-oam-1"])
def test_the_page_tells_of_every_element(name):
    scale = "nequix-oam-1/mp2020" if name == "nequix-oam-1" else make_potential(name).scale  # fetched, not shipped
    page = (Path(__file__).resolve().parents[2] / "docs" / "references" / f"{name}.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    table = elemental_entries(scale)
    assert len(table) == 89
    for symbol, id_, energy in zip(*(table[n].to_pylist() for n in ("chemsys", "id", "energy_per_atom")), strict=True):
        assert f"| {id_} |" in rows[symbol]
        assert f"| {energy:.4f} |" in rows[symbol]
