"""docs/library.md, run: its blocks in their order, in a folder of their own, the last ones on a store of two rounds."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
DUCKDB = [code for kind, code in BLOCKS if kind == "python" and "import duckdb" in code]


def run(kind: str, code: str, names: dict) -> None:
    """A block as its reader would: Python in a notebook, settings in the file they name, commands of `gnome`."""
    if kind == "toml":
        Path(code.split()[1]).write_text(code)
    elif kind == "sh":
        from pipelines.cli.app import app

        for line in code.strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "gnome"
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
    else:
        exec(compile(code, "docs/library.md", "exec"), names)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, two_rounds) -> Path:
    """The folder that the page is read in."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "campaign").symlink_to(two_rounds)
    return folder


@pytest.fixture(scope="module")
def names(campaign, quickly_compiled) -> dict:
    """What the page's blocks have defined in the end."""
    found: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(campaign)
        for kind, code in BLOCKS:
            if code not in DUCKDB:
                run(kind, code, found)
    return found


def test_every_task_takes_at_most_three_lines():
    tasks = re.split(r"^\*\*\d+\. ", PAGE, flags=re.M)[1:]
    assert len(tasks) == 10
    first = [re.search(r"```python\n(.*?)```", task, re.S) for task in tasks]
    lengths = [len(block[1].strip().splitlines()) for block in first if block]
    assert len(lengths) == 10
    # Task 9 is one command: what comes before it makes frames for readers who have none.
    assert max(length for place, length in enumerate(lengths) if place != 8) <= 3


def test_the_page_gives_what_it_says(names):
    from ase import Atoms
    from pymatgen.core import Structure

    assert [type(atoms) for atoms in names["atoms"]] == [Atoms, Atoms]
    formulas = {candidate.reduced_formula for candidate in names["candidates"]}
    assert {"KCl", "LiCl", "NaBr"} <= formulas
    assert {candidate.reduced_formula for candidate in names["ordered"]} == {"KNaCl2"}
    assert all(isinstance(structure, Structure) for structure in names["random"])
    np.testing.assert_allclose(names["above"], [0, 0, 0, names["above"][3]], atol=1e-12)
    assert names["above"][3] == pytest.approx((-7.0 + 7.1 + 1.3) / 3)
    assert names["labels"].tolist() == [0, 0, 1]
    assert names["prototypes"] == ["AB_cF8_225_a_b", "A_cF8_227_a"]
    assert names["table"]["problem"].tolist() == ["", ""]
    assert names["silicon"].get_potential_energy() < 0  # by mine.npz


def test_the_tables_of_a_store_agree(names):
    found, everything, rounds = names["found"], names["everything"], names["rounds"]
    own = everything[(everything["round"] > 0) & everything["on_hull"]]
    assert sorted(found["id"]) == sorted(own["id"])
    assert found["e_above_hull_others"].is_monotonic_increasing
    assert rounds["stable"].sum() == len(found)
    assert rounds["round"].tolist() == [1, 2]
    assert set(found["generator"]) <= {"substitution", "saps"}
    assert len(names["again"]) == 3
    assert names["hull"]["e_form_per_atom"].sum() == pytest.approx(everything["e_form_per_atom"].sum())
    assert names["store"].entries(arrow=True).column_names == list(everything.columns)
    assert names["store"].hull().scale == everything["scale"].iloc[0]


def test_the_recipe_for_duckdb(campaign, monkeypatch):
    pytest.importorskip("duckdb", reason="duckdb is not installed; `pip install duckdb` runs the page's recipe")
    monkeypatch.chdir(campaign)
    found: dict = {}
    (code,) = DUCKDB
    run("python", code, found)
    import pipelines

    entries = pipelines.open_store("campaign").entries()
    assert found["systems"]["n"].sum() == len(entries)
    assert found["systems"].set_index("chemsys")["n"].to_dict() == entries["chemsys"].value_counts().to_dict()


def test_what_is_no_store_is_told(tmp_path):
    import pipelines
    from pipelines.errors import UserError

    with pytest.raises(UserError, match="is not a store"):
        pipelines.open_store(tmp_path)
