from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.split import is_train, is_withheld

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def test_is_train_follows_the_md5_rule():
    # printf Li2O | md5sum
    assert is_train("Li2O") is (int("1e64902de2f631b9cdde2f17073ecc07", 16) % 100 < 85)
    assert 0.82 < sum(is_train(f"{a}{b}") for a in SYMBOLS[1:95] for b in SYMBOLS[1:95]) / 94**2 < 0.88


def test_about_15_percent_of_systems_are_withheld_but_never_an_element():
    assert not any(is_withheld(symbol) for symbol in SYMBOLS[1:])
    pairs = [f"{a}-{b}" for a in SYMBOLS[1:95] for b in SYMBOLS[1:95] if a < b]
    assert 0.13 < sum(map(is_withheld, pairs)) / len(pairs) < 0.17


def test_withheld_does_not_depend_on_the_order_of_elements():
    withheld = next(f"{a}-{b}" for a in SYMBOLS[1:95] for b in SYMBOLS[1:95] if a < b and is_withheld(f"{a}-{b}"))
    assert is_withheld("-".join(reversed(withheld.split("-"))))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["mp_structures", "mp20_binary_ternary"])
def test_no_row_of_the_training_data_is_withheld(name):
    systems = pq.read_table(SHARED / f"{name}.parquet", columns=["chemsys"])["chemsys"].unique().to_pylist()
    assert len(systems) > 1000
    assert [system for system in systems if is_withheld(system)] == []
