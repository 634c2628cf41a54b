import numpy as np

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.generation.parents import PARENT_SCHEMA, ParentTable, oxidation_states
from tests.gnome_core.generation.samples import parents


def states(**counts: int) -> dict[str, int]:
    key = tuple(sorted((NUMBERS[symbol], n) for symbol, n in counts.items()))
    found = oxidation_states(key)
    return {symbol: found[NUMBERS[symbol]] for symbol in counts}


def test_oxidation_states():
    assert states(Na=1, Cl=1) == {"Na": 1, "Cl": -1}
    assert states(Fe=3, O=4) == {"Fe": 3, "O": -2}  # 8/3 on average
    assert states(Ba=1, Te=1) == {"Ba": 2, "Te": -2}  # an ion that pymatgen's table lacks
    assert states(Fe=1, Al=1) == {"Fe": 0, "Al": 0}
    assert states(Fe=1) == {"Fe": 0}


def test_save_and_load(tmp_path):
    table = parents()
    table.save(str(tmp_path / "parents.parquet"))
    back = ParentTable.load(str(tmp_path / "parents.parquet"))
    assert back.to_batch().schema.equals(PARENT_SCHEMA)
    assert back.to_batch().equals(table.to_batch())
    assert back.ids == table.ids
    assert [back.species(i) for i in range(len(back))] == [table.species(i) for i in range(len(table))]


def test_a_table_of_entries_and_an_empty_one():
    table = parents()
    again = ParentTable.from_entries(table.to_batch())
    assert again.to_batch().equals(table.to_batch())
    empty = ParentTable.from_entries(table.to_batch().slice(0, 0))
    assert len(empty) == 0
    assert empty.elements == []
    assert ParentTable.from_batch(empty.to_batch()).ids == []


def test_element_slots_locate_the_elements():
    table = parents()
    numbers, counts, masks = table.element_slots
    for row, crystal in enumerate(table.crystals):
        for z, count, mask in zip(numbers[row], counts[row], masks[row], strict=True):
            if z:
                held = np.unpackbits(mask, bitorder="little")[: crystal.n_sites].astype(bool)
                assert np.array_equal(held, crystal.numbers == z)
                assert count == held.sum()
