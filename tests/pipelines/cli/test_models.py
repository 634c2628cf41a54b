"""gnome train, predict and evaluate, as users run them."""

import csv

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.split import is_train
from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.ensembles.rows import read_rows
from gnome_core.models.members import load_member
from gnome_core.models.shipped import pretrained_members
from tests.pipelines.conftest import gnome, gnome_process

pytestmark = pytest.mark.usefixtures("quickly_compiled")
SMALL = """
[scoring]
members = 2
[model]
width = 8
steps = 1
[training]
epochs = 3
fine_tune_epochs = 1
[compositional]
members = 2
[compositional.model]
width = 8
steps = 1
[compositional.training]
epochs = 3
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def trained(tiny, small, tmp_path_factory):
    """Folders of both frameworks, trained on the tiny snapshot."""
    folder = tmp_path_factory.mktemp("trained")
    for framework in ("structural", "compositional"):
        result = gnome(
            *("train", str(tiny / "snapshot.parquet"), str(folder / framework)),
            *("--framework", framework, "--config", str(small)),
        )
        assert result.returncode == 0, result.stderr
        assert "member 1: 3 epochs, MAE" in result.stderr
    return folder


def test_members_are_files_that_load(trained):
    for framework in ("structural", "compositional"):
        model = EnsembleModel.load(sorted((trained / framework).glob("member-*.npz")))
        assert [record.model for record in model.records] == [framework] * 2
        assert (trained / framework / "calibration.json").exists()
    assert len(list((trained / "structural" / "graphs").iterdir())) == 1, "kept for the next training"


def test_a_rerun_changes_nothing(trained, tiny, small):
    files = sorted((trained / "structural").glob("member-*"))
    before = [path.read_bytes() for path in files if path.suffix == ".json"]
    arrays = [dict(np.load(path)) for path in files if path.suffix == ".npz"]
    again = gnome("train", str(tiny / "snapshot.parquet"), str(trained / "structural"), "--config", str(small))
    assert again.returncode == 0, again.stderr
    assert [path.read_bytes() for path in files if path.suffix == ".json"] == before
    for old, path in zip(arrays, [path for path in files if path.suffix == ".npz"], strict=True):
        assert all((np.load(path)[name] == value).all() for name, value in old.items())


def test_members_start_from_others_of_their_network_alone(trained, tiny, small, tmp_path):
    def train(start: str, out: str, *more: str):
        command = ("train", str(tiny / "snapshot.parquet"), str(tmp_path / out), "--config", str(small))
        return gnome(*command, "--members", "1", "--from", start, *more)

    n = len(pq.read_table(tiny / "snapshot.parquet"))

    tuned = train(str(trained / "structural"), "tuned", "--also", str(tiny / "snapshot.parquet"))
    assert tuned.returncode == 0, tuned.stderr
    assert f"{2 * n} labelled rows of" in tuned.stderr
    assert "member 0: 1 epochs, MAE" in tuned.stderr
    (first, _), (own, record) = (
        load_member(folder / "member-000.npz") for folder in (trained / "structural", tmp_path / "tuned")
    )
    assert record.init_from == "structural/member-000"
    changes = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(own), strict=True)]
    assert 0 < max(changes) < 0.5, "one epoch from where the first ended"
    refused = train("pretrained", "other")
    assert refused.returncode == 2
    assert "give its settings of the network by --config" in refused.stderr


def test_predictions_of_a_file_with_distances_to_a_hull(trained, tiny, tmp_path):
    snapshot = tiny / "snapshot.parquet"
    result = gnome(
        *("predict", str(snapshot), "--model", str(trained / "structural"), "--hull", str(snapshot)),
        *("-o", str(tmp_path / "out.parquet")),
    )
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / "out.parquet")
    rows = read_rows(str(snapshot), "structural")
    assert table["id"].to_pylist() == rows.ids
    model = EnsembleModel.load(sorted((trained / "structural").glob("member-*.npz")))
    expected = model.predict(rows.items, over_volumes="median")
    np.testing.assert_allclose(table["median"].to_numpy(), expected.median, atol=1e-6)
    np.testing.assert_allclose(table["iqr"].to_numpy(), expected.iqr, atol=1e-6)
    assert np.isfinite(table["e_above_hull"].to_numpy()).all()


def test_cif_and_formulas_through_the_shipped_members(tiny, tmp_path):
    crystals = crystals_from_batch(pq.read_table(tiny / "snapshot.parquet"))
    (tmp_path / "one.cif").write_text(format_cif(crystals[-1], "one"))
    shown = gnome("predict", str(tmp_path / "one.cif"))
    assert shown.returncode == 0, shown.stderr
    assert "one" in shown.stdout
    (tmp_path / "formulas.csv").write_text("formula\nLi15Si4\nNaCl\nnonsense!\n")
    made = gnome(
        *("predict", str(tmp_path / "formulas.csv"), "--framework", "compositional"), "-o", str(tmp_path / "out.csv")
    )
    assert made.returncode == 0, made.stderr
    assert "1 rows left out: bad_formula" in made.stderr
    assert f"{tmp_path / 'formulas.csv'}, row 2: 'nonsense!' is no formula" in made.stderr
    with (tmp_path / "out.csv").open() as file:
        rows = {row["formula"]: float(row["median"]) for row in csv.DictReader(file)}
    # Measured: Li15Si4 about -0.2, NaCl about -2.1 eV/atom.
    assert rows["NaCl"] == pytest.approx(-2.1, abs=0.3)
    assert rows["Li15Si4"] == pytest.approx(-0.2, abs=0.2)


def test_what_a_folder_holds_beside_crystals_is_named_in_any_surroundings(tiny, tmp_path):
    crystals = crystals_from_batch(pq.read_table(tiny / "snapshot.parquet"))
    folder = tmp_path / "my [1] störe #2 100% {x}"
    folder.mkdir()
    good = format_cif(crystals[-1], "one")
    half = good.replace("  1\n", "  0.5\n")
    (folder / "日本 é.cif").write_text(good, encoding="utf-8")
    for name in "abcdefg":
        (folder / f"{name}.cif").write_text(half)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/nonexistent"}
    made = gnome_process("predict", str(folder), "-o", str(folder / "öut.csv"), **ascii_only)
    assert made.returncode == 0, made.stderr
    assert "7 rows left out: partial_occupancy" in made.stderr
    assert "e.cif: site 1" in made.stderr
    assert "f.cif" not in made.stderr
    assert "and 2 more" in made.stderr
    with (folder / "öut.csv").open(encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["日本 é"]
    none = gnome("predict", str(folder / "a.cif"))
    assert none.returncode == 2
    assert "a.cif: site 1" in none.stderr
    assert "nothing in it can be predicted" in none.stderr


def test_evaluation_is_of_the_whole_file_and_tells_training_formulas_apart(trained, tiny):
    snapshot = str(tiny / "snapshot.parquet")
    rows = read_rows(snapshot, "structural")
    n_validation = sum(not is_train(formula) for formula in rows.formulas)
    whole = gnome("evaluate", snapshot, "--model", str(trained / "structural"))
    assert whole.returncode == 0, whole.stderr
    assert f"{len(rows)} rows of" in " ".join(whole.stdout.split())
    assert "interquartile range" in whole.stdout
    part = gnome("evaluate", snapshot, "--model", str(trained / "structural"), "--split", "validation")
    assert f"{n_validation} rows of" in " ".join(part.stdout.split())
    lines, alone = (
        {line.split("│")[1].strip(): line.split("│")[2:5] for line in said.splitlines() if line.startswith("│")}
        for said in (whole.stdout, part.stdout)
    )
    assert lines["median, formulas that validate"][:2] == alone["median"][:2], "MAE and RMSE"
    assert "median, formulas that train" in lines
    assert "median, formulas that train" not in alone


def test_shipped_members_are_whole_and_small():
    for framework in ("structural", "compositional"):
        paths = pretrained_members(framework)
        assert len(paths) >= 4
        assert sum(path.stat().st_size + path.with_suffix(".json").stat().st_size for path in paths) < 8 << 20
        model = EnsembleModel.load(paths)
        assert len(model.elements) >= 80
        assert not any((record.init_from or "").startswith("/") for record in model.records)
        assert model.calibration.factor > 2, "the plain range holds far less than half of the errors"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "none.cif"), "there is no 'none.cif'"),
        (("predict", "embedded", "--model", "."), "holds no member-*.npz"),
        (("train", "x.csv", "out", "--framework", "compositional", "--from", "."), "holds no member-*.npz"),
        (("train", "x.csv", "out", "--framework", "compositional"), "nothing to train on"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("formula\nNaCl\n")
    result = gnome(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
