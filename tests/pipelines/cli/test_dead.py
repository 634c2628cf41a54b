"""Rows of a snapshot that cannot be used are named, by the command that meets them and by `gnome dead`."""

import json

import pytest
from ase.build import bulk
from ase.io import write
from monty.serialization import dumpfn
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cli.rounds import _follow
from pipelines.rounds import driver
from pipelines.rounds.config import parse_config
from tests.pipelines.cli.json_page import check
from tests.pipelines.rounds.test_ase_round import EMT

BROKEN = 7


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder of POSCARs, entries as JSON and extxyz, with one broken CIF more than the terminal names."""
    folder = tmp_path_factory.mktemp("inputs")
    for metal in ("Cu", "Au"):
        write(folder / f"{metal}.vasp", bulk(metal), format="vasp")
    ordered = Structure(
        Lattice.cubic(3.8), ["Cu", "Cu", "Cu", "Au"], [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0] * 3]
    )
    tetragonal = Structure(Lattice.tetragonal(2.8, 3.7), ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    labelled = ComputedStructureEntry(ordered, -14.0, entry_id="a", data={"formation_energy_per_atom": -0.05})
    dumpfn([labelled, ComputedStructureEntry(tetragonal, -7.0, entry_id="b")], folder / "entries.json.gz")
    for row in range(BROKEN):
        (folder / f"broken-{row}.cif").write_text("data_x\nnothing\n")
    return folder


@pytest.fixture(scope="module")
def store(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    (folder / "emt.py").write_text(EMT)
    settings = {"snapshot": str(inputs), "evaluation": {"evaluator": f"ase:{folder}/emt.py:calculator"}}
    return driver.init_store(str(folder / "store"), parse_config(settings, "test"))


def test_dead_rows_and_energies_are_told_as_the_snapshot_is_read(store, inputs, capsys):
    assert CliRunner().invoke(app, ["dead", store.root]).stdout == "no dead rows\n"
    assert CliRunner().invoke(app, ["dead", store.root, "--json"]).stdout == ""
    _follow(store.root, driver.run_stages(store, 0, ["snapshot"]))
    counts = store.commit(0, "snapshot").counts
    assert (counts.n_in, counts.n_out, counts.dead) == (4 + BROKEN, 4, {"unreadable_file": BROKEN})
    said = capsys.readouterr().out
    assert said.count("unreadable_file: ") == 5
    assert f"unreadable_file: {inputs / 'broken-0.cif'}: " in said
    assert f"and {BROKEN - 5} more; `gnome dead {store.root}` has all" in said
    assert "formation energies of 1 crystals are kept beside the evaluator's" in said
    assert "other energies of 1 crystals are not used" in said


def test_dead_rows_of_a_store(store, inputs):
    shown = CliRunner().invoke(app, ["dead", store.root])
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert len(lines) == BROKEN
    for row, line in enumerate(sorted(lines)):
        assert line.startswith(f"r0000/snapshot  broken-{row}  unreadable_file: {inputs / f'broken-{row}.cif'}: ")
    rows = [json.loads(line) for line in CliRunner().invoke(app, ["dead", store.root, "--json"]).stdout.splitlines()]
    for row in rows:
        check("dead STORE", row)
    assert {(row["round"], row["stage"], row["reason"]) for row in rows} == {(0, "snapshot", "unreadable_file")}
    other = CliRunner().invoke(app, ["dead", store.root, "--round", "3"])
    assert "the store has rounds 0 to 0" in str(other.exception)
