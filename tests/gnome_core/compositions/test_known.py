import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnome_core.compositions.formulas import formula_of_composition
from gnome_core.compositions.known import KnownCompositions, composition_hashes

compositions = st.dictionaries(st.integers(1, 94), st.integers(1, 40), min_size=1, max_size=6)


def rows(*atoms: dict[int, int]) -> np.ndarray:
    counts = np.zeros((len(atoms), 95), np.int32)
    for row, composition in zip(counts, atoms, strict=True):
        row[list(composition)] = list(composition.values())
    return counts


@settings(max_examples=200, deadline=None)
@given(compositions, compositions, st.integers(1, 5))
def test_hashes_are_equal_exactly_for_equal_formulas(first, second, times):
    one, other, multiple = composition_hashes(rows(first, second, {z: n * times for z, n in first.items()}))
    same = formula_of_composition(tuple(first.items())) == formula_of_composition(tuple(second.items()))
    assert (one == other) == same
    assert one == multiple


def test_hashes_never_change():
    """Workers of one job agree on them, whatever they run."""
    assert hex(composition_hashes(rows({1: 1}))[0]) == "0xfbfa71f25ef44fe3"


def test_set_is_mapped_from_a_file(tmp_path):
    known = KnownCompositions.collect([rows({3: 1, 8: 2}), rows({3: 2, 8: 4}, {11: 1, 17: 1})])
    assert len(known) == 2
    (tmp_path / "known").write_bytes(known.to_bytes())
    mapped = KnownCompositions.map_file(str(tmp_path / "known"))
    asked = composition_hashes(rows({11: 3, 17: 3}, {11: 1, 17: 2}, {3: 1, 8: 2}))
    assert mapped.contains(asked).tolist() == [True, False, True]


def test_nothing_is_in_an_empty_set(tmp_path):
    (tmp_path / "known").write_bytes(KnownCompositions.collect([]).to_bytes())
    assert not KnownCompositions.map_file(str(tmp_path / "known")).contains(composition_hashes(rows({1: 1}))).any()


def test_a_row_without_atoms_is_an_error():
    with pytest.raises(ValueError, match="row 1"):
        composition_hashes(rows({1: 1}, {}))
