import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gnome_core.compositions.formulas import (
    NUMBERS,
    SYMBOLS,
    atomic_fractions,
    chemsys,
    composition_key,
    formula_of_composition,
    reduced_formula,
)

MP_STRUCTURES = Path(__file__).resolve().parents[4] / "shared" / "data" / "mp_structures.parquet"


def test_symbols_are_pymatgens():
    from pymatgen.core import Element

    assert len(SYMBOLS) == 119
    assert all(Element.from_Z(z).symbol == SYMBOLS[z] for z in range(1, 119))
    assert NUMBERS["Pu"] == 94


@pytest.mark.parametrize(
    ("numbers", "formula"),
    [
        ([8], "O2"),
        ([1, 1, 8, 8], "H2O2"),
        ([11, 8], "Na2O2"),
        ([55, 55], "Cs"),
        ([3, 3, 3, 3, 8, 8], "Li2O"),
        ([3, 26, 15, 8, 8, 8, 8], "LiFePO4"),
        ([12, 12, 12, 15, 15, *[8] * 8], "Mg3(PO4)2"),
        (np.array([31, 33], np.uint8), "GaAs"),
    ],
)
def test_reduced_formula_of_known_compounds(numbers, formula):
    assert reduced_formula(numbers) == formula


def test_reduced_formula_is_pymatgens_for_random_compositions():
    from pymatgen.core import Composition

    rng = np.random.default_rng(0)
    for _ in range(2000):
        elements = rng.choice(
            np.array([z for z in range(1, 95) if z not in (2, 10, 18)]), rng.integers(1, 6), replace=False
        )
        counts = {int(z): int(rng.integers(1, 13)) for z in elements}
        expected = Composition({SYMBOLS[z]: count for z, count in counts.items()}).reduced_formula
        assert formula_of_composition(tuple(counts.items())) == expected


@pytest.mark.skipif(not MP_STRUCTURES.exists(), reason="needs ../shared/data/mp_structures.parquet")
def test_reduced_formula_is_pymatgens_for_materials_project_rows():
    from pymatgen.core import Composition

    table = pq.read_table(MP_STRUCTURES, columns=["numbers", "formula", "chemsys"])
    table = table.take(np.arange(0, len(table), 10))
    for row in table.to_pylist():
        expected = Composition({SYMBOLS[z]: row["numbers"].count(z) for z in set(row["numbers"])}).reduced_formula
        assert reduced_formula(row["numbers"]) == expected
        assert chemsys(row["numbers"]) == row["chemsys"]
    assert pc.count_distinct(table["formula"]).as_py() == len(
        {composition_key(n) for n in table["numbers"].to_pylist()}
    )


def test_composition_key_and_fractions():
    assert composition_key([8, 3, 8, 3, 3, 3]) == ((3, 2), (8, 1))
    fractions = atomic_fractions([[8, 3, 3], np.array([94], np.uint8)])
    assert fractions.shape == (2, 95)
    assert fractions[0, 3] == pytest.approx(2 / 3)
    assert fractions[0, 8] == pytest.approx(1 / 3)
    assert fractions[1, 94] == 1
    np.testing.assert_allclose(fractions.sum(axis=1), 1)


def test_importing_formulas_does_not_import_pymatgen():
    code = "import sys, gnome_core.compositions.formulas as f; f.chemsys([3, 8]); sys.exit('pymatgen' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
