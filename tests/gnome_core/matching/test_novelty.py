"""New, known composition, known structure."""

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.compositions.known import KnownCompositions, crystal_hashes
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.novelty import KnownCrystals, Novelty

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def salt(a: str, b: str, length: float = 4.2) -> Crystal:
    return Crystal(FCC * length, [[0] * 3, [0.5] * 3], [NUMBERS[a], NUMBERS[b]])


def caesium_chloride(a: str, b: str) -> Crystal:
    return Crystal(np.eye(3) * 2.7, [[0] * 3, [0.5] * 3], [NUMBERS[a], NUMBERS[b]])


def test_a_crystal_is_new_of_a_known_composition_or_known():
    crystals = [salt("Mg", "O"), salt("Na", "Cl", 5.6), caesium_chloride("Mg", "O")]
    entries = pa.Table.from_batches([record_batch(pa.schema(CRYSTAL_FIELDS), ["a", "b", "c"], crystals)])
    oxides = pa.chunked_array([[[12, 8], [20, 8]]], pa.list_(pa.uint8()))
    known = KnownCrystals(entries, KnownCompositions.of_source("oqmd", crystal_hashes(oxides)))
    assert known.novelty(salt("Mg", "O", 4.3)) == Novelty("known structure", "a")
    assert known.novelty(caesium_chloride("O", "Mg")) == Novelty("known structure", "c")
    stretched = Crystal(np.diag([3.0, 3.0, 5.5]), [[0] * 3, [0.5] * 3], [12, 8])
    assert known.novelty(stretched) == Novelty("known composition", "a, oqmd")
    assert known.novelty(caesium_chloride("Na", "Cl")) == Novelty("known composition", "b")
    assert known.novelty(salt("Ca", "O")) == Novelty("known composition", "oqmd")
    assert known.novelty(salt("Sr", "O")) == Novelty("new", None)


def test_without_entries_the_lists_decide():
    none = KnownCrystals(pa.Table.from_batches([], pa.schema(CRYSTAL_FIELDS)), KnownCompositions.union([]))
    assert none.novelty(salt("Sr", "O")) == Novelty("new", None)
