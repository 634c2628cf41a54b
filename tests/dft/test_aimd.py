"""Molecular dynamics by the stand-in, command by command: from crystals to references and to a potential's labels."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dft.jobs.folders import JobFolders, State
from gnome_core.analysis.diffusion import SUPERIONIC
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from pipelines.cli.app import app
from pipelines.errors import UserError
from pipelines.evaluation.emitted_jobs import EmittedFolder
from pipelines.potentials.classification import read_references
from pipelines.potentials.read_frames import read_frames
from tests.dft.standin.dynamics import diffusivity
from tests.gnome_core.analysis.samples import rock_salt

# Lithium wanders in the stand-in, magnesium stays; zinc sulphide has no ion that could.
CRYSTALS = {"salt": rock_salt(3, 17, 5.5), "magnesia": rock_salt(12, 8, 5.5), "blende": rock_salt(30, 16, 5.5)}
WANTED = """
[dft.vasp.aimd]
timestep = 5.0
ramp = 1.0
duration = 9.0
min_length = 5.5
label_every = 500
"""
POTENTIAL = """
[model]
layers = 1
hidden_irreps = "4x0e"
edge_irreps = "0e"
cutoff = 3.0
[training]
epochs = 1
"""


def invoke(*arguments: object) -> str:
    """Run the command in this process; a mistake of the user is raised."""
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def write_crystals(path, names) -> str:
    import pyarrow as pa

    batch = record_batch(pa.schema(CRYSTAL_FIELDS), list(names), [CRYSTALS[name] for name in names])
    pq.write_table(pa.Table.from_batches([batch]), path)
    return str(path)


@pytest.mark.usefixtures("quickly_compiled")
def test_from_crystals_to_references_and_labels(vasp_environment, tmp_path):
    source, jobs, out = write_crystals(tmp_path / "crystals.parquet", CRYSTALS), tmp_path / "jobs", tmp_path / "out"
    (tmp_path / "wanted.toml").write_text(WANTED)
    said = invoke("dft", "aimd", source, jobs, "--config", tmp_path / "wanted.toml")
    assert "3 crystals: 3 new jobs at 1000 K" in said
    assert "0 new jobs" in invoke("dft", "aimd", source, jobs, "--config", tmp_path / "wanted.toml")
    with pytest.raises(UserError, match="other settings of what is computed"):
        invoke("dft", "aimd", source, jobs, "--config", tmp_path / "wanted.toml", "--temperature", 800)
    folders = JobFolders(jobs)
    assert {folders[id_].job.crystal.n_sites for id_ in folders.ids()} == {16}, "heights of 5.5 Å and more"

    assert "0 of 3 runs" in invoke("dft", "collect", jobs, "-o", out, "--skip", 2)

    site = tmp_path / "site.toml"  # of a round whose protocol is another one
    command = vasp_environment.executable
    site.write_text(f'[dft.vasp]\ncommand = "{command}"\ngamma_command = "{command}"\npolling = 0.05\n')
    invoke("dft", "run", jobs, "--config", site)
    assert [folders[id_].state for id_ in folders.ids()] == [State.CONVERGED] * 3
    assert all(set(folders[id_].ending.steps) == {"ramp", "nvt"} for id_ in folders.ids())

    said = invoke("dft", "collect", jobs, "-o", out, "--skip", 2)
    assert "2 of 3 runs" in said
    assert "1 no_ion" in said
    with open(out / "conductivities.csv", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert {id_: (row["ion"], row["verdict"]) for id_, row in rows.items()} == {
        "salt": ("Li", "superionic"),
        "magnesia": ("Mg", "not superionic"),
    }
    assert float(rows["salt"]["diffusivity"]) == pytest.approx(diffusivity("Li", 1000.0), rel=0.5)
    assert float(rows["magnesia"]["diffusivity"]) < 1e-3 * diffusivity("Li", 1000.0)

    references = read_references(out / "references.parquet")
    by_id = dict(zip(references["id"].to_pylist(), references["conductivity"].to_pylist(), strict=True))
    assert by_id["magnesia"] < SUPERIONIC < by_id["salt"]
    crystals = dict(zip(references["id"].to_pylist(), crystals_from_batch(references), strict=True))
    assert np.array_equal(crystals["salt"].lattice, CRYSTALS["salt"].lattice), "the crystal, not its supercell"

    frames = read_frames(str(out))
    assert (frames.scale, len(frames)) == ("pbe/gamma/vasp", 3 * (2 + 5))
    assert len(set(frames.groups)) == 3
    assert np.isfinite(frames.stresses).all()
    (tmp_path / "potential.toml").write_text(POTENTIAL)
    invoke("potential", "train", out, "-o", tmp_path / "p.npz", "--config", tmp_path / "potential.toml")
    assert (tmp_path / "p.npz").is_file()


def test_runs_that_were_cut_off_say_how_far_they_came(vasp_environment, tmp_path, monkeypatch):
    """One is killed halfway, one's files are damaged: a row that is no reference, and a dead letter."""
    source, jobs, out = write_crystals(tmp_path / "c.parquet", ["salt", "magnesia"]), tmp_path / "jobs", tmp_path / "o"
    site = tmp_path / "site.toml"
    command = vasp_environment.executable
    site.write_text(f'[dft.vasp]\ncommand = "{command}"\ngamma_command = "{command}"\npolling = 0.05\n{WANTED}')
    invoke("dft", "aimd", source, jobs, "--config", site)
    folders = JobFolders(jobs)
    by_formula = {folders[id_].job.crystal.numbers[0]: id_ for id_ in folders.ids()}
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({f"{by_formula[3]}/attempts/01/nvt": "killed:1"}))
    monkeypatch.setenv("STANDIN_FAULTS", str(faults))
    invoke("dft", "run", jobs, "--config", site)
    assert folders[by_formula[3]].ending.reason == "crashed"
    damaged = folders[by_formula[12]]
    (damaged.folder / damaged.ending.steps["nvt"] / "vasprun.xml.gz").write_bytes(b"")

    said = invoke("dft", "collect", jobs, "-o", out, "--skip", 1)
    assert "uncertain: crashed after 5.5 of 10 ps" in said
    assert "1 of 2 runs" in said
    assert "1 truncated_output" in said
    assert pq.read_table(out / "references.parquet").num_rows == 0
    assert len(read_frames(str(out))) == 5, "of the ramp and of half of what followed"

    monkeypatch.delenv("STANDIN_FAULTS")
    invoke("dft", "retry", jobs, "--reason", "crashed")
    invoke("dft", "run", jobs)
    invoke("dft", "collect", jobs, "-o", out, "--skip", 1)
    assert pq.read_table(out / "references.parquet")["id"].to_pylist() == ["salt"]


def test_a_store_gives_its_candidates_and_a_file_takes_no_choice(tmp_path):
    source = write_crystals(tmp_path / "c.parquet", ["salt"])
    with pytest.raises(UserError, match="is no store"):
        invoke("dft", "aimd", source, tmp_path / "jobs", "--only", "LiCl")
    with pytest.raises(UserError, match="no jobs of molecular dynamics"):
        invoke("dft", "collect", tmp_path, "-o", tmp_path / "out")


def test_a_damaged_list_of_settings_is_told(tmp_path):
    (tmp_path / "emitted.json").write_text('{"engine": "vasp"')
    with pytest.raises(UserError, match=r"emitted\.json is damaged"):
        EmittedFolder.open(tmp_path)
    assert EmittedFolder.open(tmp_path / "none") is None


def test_rounds_refuse_dynamics_as_their_protocol(tmp_path):
    (tmp_path / "round.toml").write_text('[dft.vasp]\nprotocol = "aimd"\n')
    with pytest.raises(UserError, match="gives no energies for a hull"):
        invoke("dft", "aimd", "x.cif", tmp_path / "jobs", "--config", tmp_path / "round.toml")
