from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.formulas import formula_of_composition
from gnome_core.compositions.known import KnownCompositions, composition_hashes, crystal_hashes, shipped_compositions

FORMULAS = Path(__file__).resolve().parents[4] / "shared" / "data" / "known_formulas.parquet"


def rows(*counts: dict[int, int]) -> np.ndarray:
    """(n, 95) of {atomic number: atoms}."""
    array = np.zeros((len(counts), 95), np.int64)
    for row, atoms in zip(array, counts, strict=True):
        row[list(atoms)] = list(atoms.values())
    return array


def formulas(*names: str) -> np.ndarray:
    """(n,) hashes."""
    return composition_hashes(rows(*(dict(composition_of(name)) for name in names)))


cells = st.dictionaries(st.integers(1, 94), st.integers(1, 20), min_size=1, max_size=5)


@given(cells, cells, st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_hashes_are_equal_where_reduced_formulas_are(first, second, times):
    one, other, multiple = composition_hashes(rows(first, second, {z: n * times for z, n in first.items()}))
    assert one == multiple
    names = [formula_of_composition(tuple(sorted(atoms.items()))) for atoms in (first, second)]
    assert (one == other) == (names[0] == names[1])


def test_hashes_are_the_same_on_every_machine():
    """A set written by the driver is read by workers anywhere, and the shipped one was made before."""
    assert hex(composition_hashes(rows({1: 1}))[0]) == "0xfbfa71f25ef44fe3"


def test_crystals_have_the_hashes_of_their_compositions():
    numbers = pa.chunked_array([[[12, 12, 8, 8]], [[8, 12], [3, 3, 8]]], pa.list_(pa.uint8()))
    assert crystal_hashes(numbers).tolist() == formulas("MgO", "MgO", "Li2O").tolist()
    assert crystal_hashes(numbers.slice(0, 0)).tolist() == []


def test_each_composition_is_known_to_whoever_named_it():
    mine = KnownCompositions.of_source("store", formulas("MgO", "Mg2O2", "NaCl"))
    lists = KnownCompositions.union(
        [
            KnownCompositions.of_source("mp", formulas("MgO", "CaO")),
            KnownCompositions.of_source("oqmd", formulas("MgO")),
        ]
    )
    both = KnownCompositions.union([mine, lists, KnownCompositions.of_source("mp", formulas("KCl"))])
    assert both.sources == ("store", "mp", "oqmd")
    asked = both.find(formulas("MgO", "NaCl", "CaO", "KCl", "NaCl2"))
    assert [both.names(int(answer)) for answer in asked] == [
        ["store", "mp", "oqmd"], ["store"], ["mp"], ["mp"], []
    ]  # fmt: skip
    assert len(both) == 4
    with pytest.raises(ValueError, match="17 lists of known compositions; at most 16"):
        KnownCompositions.union(KnownCompositions.of_source(str(i), formulas("MgO")) for i in range(17))


def test_a_set_is_mapped_from_its_file_without_a_copy(tmp_path):
    known = KnownCompositions.of_source("store", formulas(*(f"Mg{n}O" for n in range(1, 5000))))
    (tmp_path / "known").write_bytes(known.to_bytes())
    before = pa.total_allocated_bytes()
    mapped = KnownCompositions.map_file(str(tmp_path / "known"))
    assert pa.total_allocated_bytes() - before < 1000
    assert (mapped.find(formulas("Mg7O", "Mg2O14", "NaCl")) == [1, 0, 0]).all()
    (tmp_path / "known").write_bytes(KnownCompositions.union([]).to_bytes())
    assert not KnownCompositions.map_file(str(tmp_path / "known")).find(formulas("MgO")).any()


def test_rows_without_atoms_are_refused():
    with pytest.raises(ValueError, match="row 1 has no atoms"):
        composition_hashes(rows({1: 1}, {}))


def test_the_shipped_set_knows_the_named_traps():
    """The demo once offered CoF2, CrF3, PtS2 and MnSO4 as new."""
    known = shipped_compositions()
    traps = ("CoF2", "CrF3", "PtS2", "MnSO4", "NbF5", "AgF3")
    for formula, answer in zip(traps, known.find(formulas(*traps)), strict=True):
        assert {"mp", "oqmd"} & set(known.names(int(answer))), formula
    assert len(known) == 186_245
    assert not known.find(formulas("Mg17O3", "Li7Cs")).any()
    assert (resources.files("gnome_core.data") / "known_formulas.parquet").stat().st_size <= 2_000_000


@pytest.mark.skipif(not FORMULAS.exists(), reason="../shared/data is not here")
def test_the_shipped_set_is_the_table_it_was_made_of():
    table = pq.read_table(FORMULAS)
    known = shipped_compositions()
    for bit, column in enumerate(("in_mp", "in_oqmd", "in_experiment")):
        assert (known.known_to >> bit & 1).sum() == table[column].to_numpy().sum()
    some = table.take(pa.array(np.random.default_rng(0).permutation(len(table))[:2000])).to_pylist()
    answers = known.find(formulas(*(row["formula"] for row in some)))
    for row, answer in zip(some, answers, strict=True):
        assert known.names(int(answer)) == [n for n in ("mp", "oqmd", "experiment") if row[f"in_{n}"]]
