"""Whole rounds on ASE calculators that a file of the user's makes."""

from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from pipelines.reading.committed import entries_until, proposals
from pipelines.rounds import driver
from pipelines.rounds.config import load_config, parse_config
from pipelines.rounds.plan import PROPOSE, stages_of
from pipelines.rounds.verify import verify
from pipelines.store.store import Store

pytestmark = pytest.mark.usefixtures("quickly_compiled")
EMT = """
from ase.calculators.emt import EMT

def calculator():
    return EMT()
"""
# Every two unlike neighbours within 4 Å gain DEPTH; no forces, as of a lattice model.
LATTICE = """
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

DEPTH = 0.02

class Lattice(Calculator):
    implemented_properties = ["energy", "forces", "stress"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        first, second = neighbor_list("ij", atoms, 4.0)
        unlike = (atoms.numbers[first] != atoms.numbers[second]).sum()
        self.results = {
            "energy": -3.0 * len(atoms) - DEPTH * unlike,
            "forces": np.zeros((len(atoms), 3)),
            "stress": np.zeros(6),
        }

def calculator():
    return Lattice()
"""
SOURCES = {"emt": EMT, "lattice": LATTICE, "deeper": LATTICE.replace("DEPTH = 0.02", "DEPTH = 0.025")}
METALS = ("Cu", "Ag", "Au", "Ni", "Pd", "Pt")


@pytest.fixture(scope="module")
def cifs(tmp_path_factory) -> Path:
    """Metals, and ordered alloys of some pairs of them."""
    folder = tmp_path_factory.mktemp("cifs")
    crystals = {metal: bulk(metal, cubic=True) for metal in METALS}
    for a, b in (("Cu", "Au"), ("Ni", "Pt"), ("Ag", "Pd"), ("Cu", "Pd")):
        edge = (crystals[a].cell[0, 0] + crystals[b].cell[0, 0]) / 2
        places = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
        for symbols in ([a, b, b, b], [a, a, b, b]):
            crystals["".join(symbols)] = Atoms(symbols, scaled_positions=places, cell=[edge] * 3, pbc=True)
    for name, atoms in crystals.items():
        write(folder / f"{name}.cif", atoms)
    return folder


@pytest.fixture(scope="module")
def stores(tiny, cifs, tmp_path_factory) -> dict[str, Store]:
    """A store of each source, whose snapshot it has evaluated, and of two the first round, from a file of one name."""
    folder = tmp_path_factory.mktemp("rounds")
    document = load_config(str(tiny / "round.toml")).document()
    document |= {"snapshot": str(cifs)}
    document["evaluation"] |= {"evaluator": f"ase:{folder / 'mine.py'}:calculator"}
    document["generation"] |= {"elements": list(METALS), "oxidation_rule": False}
    stores = {}
    for name, source in SOURCES.items():
        (folder / "mine.py").write_text(source)
        stores[name] = store = driver.init_store(str(folder / name), parse_config(document, "test"))
        list(driver.run_stages(store, 0, stages_of(0)))
        stages = PROPOSE if name == "deeper" else stages_of(1)
        list(driver.run_stages(store, driver.start_round(store, None), stages))
    return stores


@pytest.mark.parametrize("name", ["emt", "lattice"])
def test_a_round_runs_on_a_calculator_of_a_file(stores, name):
    assert list(verify(stores[name])) == []
    entries = entries_until(stores[name], 1)
    assert len(entries) > 14
    (scale,) = set(entries["scale"].to_pylist())
    assert scale.startswith("ase:mine.py:calculator/")


def test_another_model_in_the_file_changes_every_job_and_the_scale(stores):
    one, other = ({*proposals(stores[name].root, 1)["id"].to_pylist()} for name in ("lattice", "deeper"))
    assert one
    assert other
    assert not one & other
    scales = [set(entries_until(stores[name], 0)["scale"].to_pylist()) for name in ("lattice", "deeper")]
    assert not scales[0] & scales[1]
