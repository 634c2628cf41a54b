"""gnome phonons, as users run it."""

import os

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.crystal import Crystal
from tests.gnome_core.potentials.samples import FCC
from tests.pipelines.cli.conftest import POLONIDE, write_cifs
from tests.pipelines.conftest import gnome, gnome_process

pytest.importorskip("phonopy")
CRYSTALS = {
    "silicon": Crystal(5.46 * FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [14, 14]),
    "polonide": POLONIDE,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cifs(tmp_path_factory.mktemp("crystals"), CRYSTALS)


def test_every_crystal_has_its_phonons_or_says_why_not(folder, tmp_path):
    output, bands = tmp_path / "out.parquet", tmp_path / "bands"
    result = gnome_process("phonons", str(folder), "-o", str(output), "--supercell", "3", "--bands", str(bands))
    assert result.returncode == 0, result.stderr
    assert "of 1 crystals dynamically stable (no mode below -0.1 THz) by embedded, 1 without an answer" in result.stdout
    assert "no phonons: unknown_element 1" in result.stderr
    assert "broken.cif" in result.stderr
    assert "Warning" not in result.stderr
    rows = {row["id"]: row for row in pq.read_table(output).to_pylist()}
    assert set(rows) == set(CRYSTALS)
    silicon = rows["silicon"]
    assert silicon["optical_frequency"] == pytest.approx(15.5, rel=0.3)
    assert 17 < silicon["heat_capacity"] < 24
    assert silicon["dynamically_stable"] == (silicon["lowest_frequency"] >= -0.1)
    assert "Po" in rows["polonide"]["message"]
    assert rows["polonide"]["dynamically_stable"] is None
    assert [path.name for path in bands.iterdir()] == ["silicon.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"out.parquet", "bands"}  # kept batches are gone


def test_a_crystal_as_given_is_not_moved(folder, tmp_path):
    output = tmp_path / "out.csv"
    result = gnome("phonons", str(folder / "silicon.cif"), "-o", str(output), "--supercell", "3", "--as-given")
    assert result.returncode == 0, result.stderr
    assert pyarrow.csv.read_csv(output)["steps"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.cif"], "must end in"),
        (["-o", "x.csv", "--evaluator", "espresso"], "runs jobs in folders"),
        (["-o", "x.csv", "--supercell", "1"], "--supercell"),
    ],
)
def test_mistakes_are_told_before_the_work(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = gnome("phonons", str(folder / "silicon.cif"), *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_without_phonopy_the_extra_is_named(folder, tmp_path):
    (tmp_path / "phonopy.py").write_text("raise ImportError")
    result = gnome_process(
        "phonons",
        str(folder),
        "-o",
        str(tmp_path / "x.csv"),
        PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )
    assert result.returncode == 2
    assert "pip install 'gnome-flywheel[phonons]'" in result.stderr
    assert result.stderr.count("\n") == 1
