"""docs/notebooks, run: each script in a folder of its own, as Jupyter runs its cells one after the other."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.site.notebooks import as_markdown, cells

FOLDER = ROOT / "docs" / "notebooks"


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(compile((FOLDER / f"{name}.py").read_text(), f"docs/notebooks/{name}.py", "exec"), names)
    return names


def test_all_are_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == {"my_system", "my_calculator", "pieces", "store_in_pandas"}


def test_my_system(tmp_path, monkeypatch, quickly_compiled):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = run("my_system", tmp_path, monkeypatch)
    assert len(names["known"]) == 10
    assert {"MgO", "MgS"} <= {structure.reduced_formula for structure in names["candidates"]}
    assert names["best"]["e_above_hull"].is_monotonic_increasing
    relaxed = names["relaxed"]
    assert len(relaxed) == 2
    assert all(-9 < structure.properties["energy_per_atom"] < -1 for structure in relaxed if structure)


def test_my_calculator(tmp_path, monkeypatch):
    names = run("my_calculator", tmp_path, monkeypatch)
    assert -0.2 < names["mixing"] < 0  # Cu3Au orders, in EMT too
    assert "EMT of ASE" in names["evaluator"].scale or "emt" in names["evaluator"].scale


def test_pieces(tmp_path, monkeypatch):
    names = run("pieces", tmp_path, monkeypatch)
    assert {"KCl", "LiCl", "NaBr"} <= {structure.reduced_formula for structure in names["whole"]}
    assert names["labels"].tolist()[:2] == [0, 0]
    assert names["prototypes"][0] == "AB_cF8_225_a_b"
    assert names["among_themselves"].tolist() == pytest.approx([0, 0.04, 0], abs=1e-9)


def test_store_in_pandas(tmp_path, monkeypatch, two_rounds):
    (tmp_path / "campaign").symlink_to(two_rounds)
    names = run("store_in_pandas", tmp_path, monkeypatch)
    found, entries = names["found"], names["entries"]
    assert set(found["id"]) == set(entries[(entries["round"] > 0) & entries["on_hull"]]["id"])
    assert names["by_system"]["entries"].sum() == len(entries)
    assert len(names["structures"]) == len(names["close"]) == len(names["labels"])


def test_cells_become_a_page():
    script = "ignored\n# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1\n\ny = 2\n"
    assert cells(script) == [("markdown", "# Title\n\ntext"), ("code", "x = 1\n\ny = 2")]
    assert as_markdown(script) == "# Title\n\ntext\n\n```python\nx = 1\n\ny = 2\n```\n"
