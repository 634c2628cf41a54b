import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from gnome_core.compositions.dense import MissingReference, atom_counts, sparse
from gnome_core.stability.references import ElementalReferences

NUMBERS = [[3, 3], [3], [8, 8], [3, 3, 8], [26]]
ENERGY = np.array([-1.9, -1.8, -4.9, -4.8, np.nan])


def test_lowest_elemental_entry_becomes_the_reference():
    references = ElementalReferences.lowest(NUMBERS, ENERGY, "test")
    assert dict(references.energies) == {3: -1.9, 8: -4.9}


def test_formation_energy_of_ragged_numbers():
    references = ElementalReferences("test", {3: -1.9, 8: -4.9})
    expected = [0.0, 0.1, 0.0, -4.8 - (-1.9 * 2 - 4.9) / 3]
    for numbers in (NUMBERS[:4], pa.array(NUMBERS[:4], pa.list_(pa.uint8()))):
        np.testing.assert_allclose(references.formation_energy_per_atom(numbers, ENERGY[:4]), expected, atol=1e-12)


def test_missing_reference_names_the_elements():
    references = ElementalReferences("test", {3: -1.9})
    with pytest.raises(MissingReference, match="O, Fe") as caught:
        references.formation_energy_per_atom([[3], [3, 26, 8]], np.zeros(2))
    assert caught.value.elements == ("O", "Fe")
    assert "row 1" in str(caught.value)


def test_json_and_pickle_round_trip():
    references = ElementalReferences("pbe", {26: -8.3, 1: -3.4})
    for copy in (ElementalReferences.from_json(references.to_json()), pickle.loads(pickle.dumps(references))):
        assert copy.scale == "pbe"
        assert copy.energies == references.energies
    with pytest.raises(ValueError, match="Qq"):
        ElementalReferences.from_json(json.dumps({"scale": "pbe", "unit": "eV/atom", "energies": {"Qq": 1.0}}))
    with pytest.raises(ValueError, match="unit"):
        ElementalReferences.from_json(json.dumps({"scale": "pbe", "energies": {"H": 1.0}}))


def test_references_must_be_finite():
    with pytest.raises(ValueError, match="Fe"):
        ElementalReferences("pbe", {26: np.nan})


def test_atom_counts_of_a_sliced_arrow_column():
    column = pa.array(NUMBERS, pa.list_(pa.uint8()))
    np.testing.assert_array_equal(atom_counts(column.slice(2, 2)), atom_counts(NUMBERS[2:4]))
    np.testing.assert_array_equal(atom_counts(pa.chunked_array([column, column])), atom_counts(NUMBERS * 2))
    assert atom_counts([]).shape == (0, 95)


@pytest.mark.parametrize(("numbers", "message"), [([[3], []], "row 1"), ([[3], [3, 95]], "row 1"), ([[0]], "row 0")])
def test_atom_counts_names_the_bad_row(numbers, message):
    with pytest.raises(ValueError, match=message):
        atom_counts(numbers)


def test_sparse_names_the_bad_row():
    counts = atom_counts([[3], [8], [8, 3]])
    starts, numbers, amounts = sparse(counts)
    assert starts.tolist() == [0, 1, 2, 4]
    assert numbers.tolist() == [3, 8, 3, 8]
    assert amounts.tolist() == [1, 1, 1, 1]
    for bad in (np.nan, -1.0, np.inf):
        counts[2, 8] = bad
        with pytest.raises(ValueError, match="row 2"):
            sparse(counts)
    counts[1] = 0
    with pytest.raises(ValueError, match="row 1"):
        sparse(counts)
