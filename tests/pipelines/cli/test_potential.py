"""`gnome potential` from end to end on silicon and its Stillinger-Weber teacher."""

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.convert import to_atoms
from gnome_core.crystals.crystal import Crystal
from pipelines.cli.app import app
from pipelines.errors import UserError
from pipelines.potentials.read_frames import LABELS, read_frames
from pipelines.rounds.manifest import read_manifest
from pipelines.store.store import Store
from tests.gnome_core.potentials.samples import COPPER, FCC
from tests.pipelines.conftest import gnome

pytestmark = pytest.mark.usefixtures("quickly_compiled")
SILICON = Crystal(5.43 * FCC, [[0, 0, 0], [0.25] * 3], [14, 14])
VACANT = format_cif(Crystal(4.2 * FCC, [[0, 0, 0], [0.5] * 3], [12, 8]), "x").replace("  Mg0  1", "  Mg1  1")
VACANT = VACANT.replace("0.0000000000  1\n", "0.0000000000  0.6\n")
CONFIG = """
[model]
layers = 1
hidden_irreps = "8x0e+4x1o"
edge_irreps = "0e+1o"
cutoff = 4.0
radial_width = 16
[training]
epochs = 3
batch_size = 4
validate_every = 3
[md]
ramp = 0.0
duration = 0.1
start_temperature = 50
temperature = 50
"""


def invoke(*arguments: str):
    """Run the command in this process; a mistake of the user is raised."""
    result = CliRunner().invoke(app, ["potential", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """crystals.parquet (two silicons and one copper, which the teacher refuses), potential.toml, labels/ and si.npz."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("potential")
    squeezed = SILICON.scaled_to_volume(0.95 * SILICON.volume)
    batch = record_batch(pa.schema(CRYSTAL_FIELDS), ["a", "b", "c"], [SILICON, squeezed, COPPER])
    pq.write_table(pa.Table.from_batches([batch]), folder / "crystals.parquet")
    (folder / "potential.toml").write_text(CONFIG)
    (folder / "wild.toml").write_text(CONFIG.replace("batch_size = 4", "batch_size = 4\nlearning_rate = 1e6"))
    label = ("label", folder / "crystals.parquet", "-o", folder / "labels", "--teacher", "stillinger-weber")
    label = (*label, "--copies", "5", "--rattle", "0.1")
    out = invoke(*label)
    assert "12 of 18 labelled" in out
    assert "unknown_element 6" in out
    invoke("train", folder / "labels", "-o", folder / "si.npz", "--config", folder / "potential.toml")
    return folder


def test_labels_count_every_crystal_and_keep_what_the_teacher_refused(folder):
    manifest = read_manifest(Store(str(folder / "labels")), LABELS)
    assert (manifest.counts.n_in, manifest.counts.n_out) == (18, 18)
    results = Store(str(folder / "labels")).open_parquet(next(f for f in manifest.files if f.table == "results")).read()
    assert sorted(results["status"].to_pylist()) == ["done"] * 12 + ["unknown_element"] * 6
    frames = read_frames(str(folder / "labels"))
    assert len(frames) == 12
    assert frames.scale == "stillinger-weber-si"
    still = [f for f in frames.forces if np.abs(f).max() < 1e-3]
    assert len(still) == 2  # the two perfect crystals


def test_crystals_of_other_elements_are_left_out_and_counted(folder, tmp_path):
    label = ("label", folder / "crystals.parquet", "-o", tmp_path / "si", "--teacher", "stillinger-weber")
    assert "2 of 3 labelled" in invoke(*label, "--elements", "Si,O")
    assert read_manifest(Store(str(tmp_path / "si")), LABELS).counts.rejected["other_elements"] == 1
    with pytest.raises(UserError, match="Xy is no element"):
        invoke(*label, "--elements", "Si,Xy")


def test_a_labelling_that_was_interrupted_repeats_no_batch(folder, monkeypatch):
    from gnome_core.potentials.stillinger_weber import StillingerWeber

    def never(*_):
        raise AssertionError("labelled again")

    monkeypatch.setattr(StillingerWeber, "evaluate", never)
    (folder / "labels" / LABELS / "MANIFEST.json").unlink()
    label = ("label", folder / "crystals.parquet", "-o", folder / "labels", "--teacher", "stillinger-weber")
    assert "12 of 18 labelled" in invoke(*label, "--copies", "5", "--rattle", "0.1")


def test_dynamics_of_a_potential_are_told_where_it_has_any(folder, monkeypatch):
    from gnome_core.potentials import endurance

    short = {"ramp": 0.0, "duration": 0.05, "min_length": 0.0}
    for name in ("CONSERVED", "HOT"):
        monkeypatch.setattr(endurance, name, getattr(endurance, name).model_copy(update=short))
    monkeypatch.setattr(endurance.endurance, "__defaults__", (0, endurance.CONSERVED, endurance.HOT))
    told = invoke("test", folder / "si.npz", folder / "labels", "--dynamics")
    assert re.search(r"drift without a thermostat: [+-]\d+\.\d{3} meV/atom/ps, 2 atoms", told)
    assert re.search(r"up to 2,000 K: 0\.0\d of 0\.04 ps, ", told)
    with pytest.raises(UserError, match="needs a trained potential"):
        invoke("test", "stillinger-weber", folder / "labels", "--dynamics")


def test_a_trained_potential_is_tested_tuned_and_runs(folder):
    told = invoke("test", folder / "si.npz", folder / "labels")
    assert "force   MAE" in told
    assert "softening: predicted forces are" in told
    tuned = ("train", folder / "labels", "-o", folder / "tuned.npz", "--from", folder / "si.npz")
    assert "validated" in invoke(*tuned, "--config", folder / "potential.toml")
    from ase.io import read, write

    write(folder / "si.cif", to_atoms(SILICON))
    options = ("--potential", folder / "tuned.npz", "--config", folder / "potential.toml")
    assert "6 frames, 0.10 ps" in invoke("md", folder / "si.cif", "-o", folder / "md.parquet", *options)
    invoke("md", folder / "si.cif", "-o", folder / "md.extxyz", *options)
    images = read(folder / "md.extxyz", ":")
    table = pq.read_table(folder / "md.parquet")
    np.testing.assert_allclose(images[-1].positions.ravel(), table["positions"][-1].as_py(), atol=1e-4)
    assert table.schema.metadata[b"unit.positions"] == b"angstrom"


def test_extxyz_frames_are_read_and_broken_ones_named(folder):
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    atoms = to_atoms(SILICON)
    atoms.calc = SinglePointCalculator(atoms, energy=-8.0, forces=np.zeros((2, 3)))
    write(folder / "good.extxyz", [atoms, atoms])
    frames = read_frames(str(folder / "good.extxyz"))
    assert frames.energies.tolist() == [-8.0, -8.0]
    assert np.isnan(frames.stresses).all()
    write(folder / "bad.extxyz", [atoms, to_atoms(SILICON)])
    with pytest.raises(UserError, match=r"bad.extxyz: configuration 1: .*energy and forces"):
        read_frames(str(folder / "bad.extxyz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nothing", "-o", "x.npz"), "neither a store, nor a folder of labels"),
        (("train", "{}/labels", "-o", "x.txt"), "must end in .npz"),
        (
            ("train", "{}/labels", "-o", "x.npz", "--config", "none.toml"),
            "`gnome potential config > none.toml` writes one",
        ),
        (("train", "{}/labels", "-o", "x.npz", "--config", "{}/wild.toml"), "lower training.learning_rate (1e+06)"),
        (("test", "nope", "{}/labels"), "no potential 'nope'; there are: embedded"),
        (("test", "{}/none.npz", "{}/labels"), "not a potential"),
        (("md", "{}/none.cif", "-o", "x.parquet"), "none.cif"),
        (("md", "{}/vacant.cif", "-o", "x.parquet"), "vacant.cif: site 1 (Mg1) has occupancy 0.6"),
        (("md", "{}/junk.dat", "-o", "x.parquet"), "junk.dat: ASE cannot read it as "),
        (("label", "{}/none.parquet", "-o", "y"), "none.parquet"),
    ],
)
def test_mistakes_are_one_clear_error(folder, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "vacant.cif").write_text(VACANT)
    (folder / "junk.dat").write_text("junk\n")
    result = gnome("potential", *(a.format(folder) for a in arguments))
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("gnome: ")]
    assert message in line
    assert "Traceback" not in result.stderr


def test_unknown_settings_name_the_nearest_key(folder, tmp_path):
    from pipelines.potentials.config import load_potential_config

    (tmp_path / "potential.toml").write_text("[training]\nepoch = 3\n")
    with pytest.raises(UserError, match=r"training.epoch; did you mean training.epochs\?"):
        load_potential_config(str(tmp_path / "potential.toml"))
    assert "[md]" in invoke("config")
