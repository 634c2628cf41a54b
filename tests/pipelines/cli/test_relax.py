"""gnome relax, judge and potential get, as users run them."""

import json

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.crystal import Crystal
from tests.gnome_core.potentials.samples import FCC
from tests.pipelines.cli.conftest import POLONIDE, write_cifs
from tests.pipelines.cli.json_page import check
from tests.pipelines.conftest import gnome, gnome_process

SALT = Crystal(5.9 * FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
SALT_AND_POLONIUM = {
    "salt": SALT,
    "polonide": POLONIDE,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cifs(tmp_path_factory.mktemp("crystals"), SALT_AND_POLONIUM)


def test_crystals_are_relaxed_and_what_is_not_says_why(folder, tmp_path):
    result = gnome_process("relax", str(folder), "-o", str(tmp_path / "out.parquet"), "--hull", "mp")
    assert result.returncode == 0, result.stderr
    assert "1 of 2 crystals relaxed by embedded" in result.stdout
    assert "not relaxed: unknown_element 1" in result.stderr
    assert "broken.cif" in result.stderr
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "out.parquet").to_pylist()}
    salt = rows["salt"]
    assert salt["status"] == "done"
    assert salt["e_form_per_atom"] == pytest.approx(-2.1, abs=0.1)
    assert abs(salt["e_above_hull"]) < 0.1
    assert -0.2 < salt["volume_change"] < -0.02
    assert rows["polonide"]["e_form_per_atom"] is None
    assert "Po" in rows["polonide"]["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet"]  # kept batches are gone


def test_a_single_point_moves_nothing_and_other_formats_are_written(folder, tmp_path):
    for name in ("out.csv", "out.extxyz"):
        result = gnome("relax", str(folder / "salt.cif"), "-o", str(tmp_path / name), "--single-point")
        assert result.returncode == 0, result.stderr
    table = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert table["steps"].to_pylist() == [1]
    from ase.io import read

    atoms = read(tmp_path / "out.extxyz")
    assert atoms.info["e_form_per_atom"] == pytest.approx(table["e_form_per_atom"][0].as_py(), abs=1e-4)
    assert atoms.get_volume() == pytest.approx(SALT.volume, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.txt"], "must end in"),
        (["-o", "x.csv", "--evaluator", "vasp"], "runs jobs in folders"),
        (["-o", "x.csv", "--evaluator", "no-such"], "no evaluator 'no-such'"),
        (["-o", "x.csv", "--evaluator", "nequix-oam-1"], "gnome potential get nequix-oam-1"),
        (["-o", "x.csv", "--evaluator", "chgnet-r2scan", "--hull", "mp"], "do not compare with the Materials"),
        (["-o", "x.csv", "--single-point", "--fixed-cell"], "--single-point moves nothing"),
    ],
)
def test_mistakes_are_one_line_before_the_work(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = gnome("relax", str(folder / "salt.cif"), *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_judge_is_judged(tmp_path):
    result = gnome("judge", "chgnet", "--single-point", "--limit", "12", "--json", "-o", str(tmp_path / "rows.parquet"))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    check("judge EVALUATOR", found)
    rows = pq.read_table(tmp_path / "rows.parquet")
    error = np.subtract(rows["e_form_predicted"], rows["e_form_per_atom"])
    assert found["crystals"] == 12
    assert found["mae"] == pytest.approx(np.abs(error).mean())
    assert 0.01 < found["mae"] < 0.2
    assert set(found["thresholds"]) == {"0", "0.05"}
    assert len(found["margins"]) == 4


def test_a_potential_that_is_not_the_published_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "x.nqx").write_bytes(b"{}\n")
    result = gnome("potential", "get", "nequix-oam-1", str(tmp_path / "x.nqx"))
    assert result.returncode == 2
    assert "not the published nequix-oam-1" in result.stderr
    assert "there is: nequix-oam-1" in gnome("potential", "get", "other").stderr
