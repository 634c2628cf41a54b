"""Outputs that cannot be written: one line, exit code 2, before the work; folders that are missing are made."""

import errno
import importlib
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.by_name import shipped_path
from pipelines.cli.app import app
from pipelines.cli.outputs import check_output, writing
from pipelines.errors import UserError
from tests.pipelines.conftest import gnome, gnome_process


def test_missing_folders_are_made_and_nothing_else_is_left(tmp_path):
    check_output(tmp_path / "a/b/x.csv", (".csv",))
    check_output(tmp_path / "a/c", folder=True)
    check_output(None)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b"]
    (tmp_path / "x.csv").write_text("kept")
    check_output(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("d", {}, "is a folder; name a file"),
        ("f", {"folder": True}, "is a file; name a folder"),
        ("f/x.csv", {}, "cannot be written: "),
        ("f/x", {"folder": True}, "cannot be written: "),
        ("x.txt", {"endings": (".csv", ".parquet")}, r"must end in \.csv or \.parquet"),
        ("n" * 300, {}, "cannot be written: file name too long"),
    ],
)
def test_what_cannot_be_written_is_said(name, options, message, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("x")
    with pytest.raises(UserError, match=message) as caught:
        check_output(tmp_path / name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(tmp_path):
    (tmp_path / "d").mkdir(mode=0o500)
    with pytest.raises(UserError, match="permission denied"):
        check_output(tmp_path / "d/x.csv")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_goes_wrong_in_the_writing_is_one_line(number, tmp_path):
    with pytest.raises(UserError, match=r"x\.csv cannot be written: "), writing(tmp_path / "x.csv"):
        raise OSError(number, os.strerror(number))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "d").mkdir()
    (folder / "f").write_text("x")
    cell = 2.0 * (np.ones((3, 3)) - np.eye(3))
    (folder / "LiF.cif").write_text(format_cif(Crystal(cell, [[0] * 3, [0.5] * 3], [3, 9]), "LiF"))
    (folder / "md.toml").write_text("[md]\nramp = 0.0\nduration = 0.02\nsave_every = 5\n")
    return folder


# STORE stands for a store, which commands look at after the output.
COMMANDS = [
    ("predict LiF.cif -o f/x.csv", "f/x.csv cannot be written"),
    ("predict LiF.cif -o d", "must end in .csv or .parquet"),
    ("compositions --elements Li,O -o d", "d is a folder"),
    ("compositions --elements Li,O -o f/c.txt", "f/c.txt cannot be written"),
    ("seeds LiO -o f", "f is a file"),
    ("init f/s --snapshot LiF.cif", "f/s cannot be written"),
    ("fit-superionic none.csv -o f/x.json", "f/x.json cannot be written"),
    ("replay none.parquet -o f", "f is a file"),
    ("train LiF.cif f", "f is a file"),
    ("potential md LiF.cif -o run.traj --config md.toml", "run.traj: must end in .parquet or .extxyz or .xyz"),
    ("potential md LiF.cif -o f/run.parquet --config md.toml", "f/run.parquet cannot be written"),
    ("potential label LiF.cif -o f", "f is a file"),
    ("potential train LiF.extxyz -o f/x.npz", "f/x.npz cannot be written"),
]


@pytest.fixture
def run(inputs, monkeypatch):
    """Run a command in this process and in the folder of the inputs, up to the error that main() would print."""
    monkeypatch.chdir(inputs)
    monkeypatch.setattr("pipelines.beam.environment.prepare", lambda verbose: None)  # it starts the process anew

    def invoke(command: str) -> str:
        result = CliRunner().invoke(app, command.split())
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """What is replaced below is bound by these at import: one loaded meanwhile would keep the replacement for good."""
    for name in (
        "gnome_core.ensembles.workflows",
        "gnome_core.library.relaxing",
        "dft.evaluators.potential",
        "pipelines.evaluation.judging",
        "pipelines.cli.relax_text",
        "pipelines.report.live",
    ):
        importlib.import_module(name)


@pytest.mark.parametrize(("command", "message"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_commands_complain_before_the_work(command, message, run, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the work was begun")

    monkeypatch.setattr("gnome_core.ensembles.rows.read_rows", never)
    monkeypatch.setattr("gnome_core.potentials.by_name.make_potential", never)
    with pytest.raises(UserError) as caught:
        run(command)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("export STORE -o d", "d is a folder"),
        ("export STORE -o f/x.csv", "f/x.csv cannot be written"),
        ("export STORE --format cif -o f", "f is a file"),
        ("analyse STORE growth --export f", "f is a file"),
        ("analyse STORE prototypes --poscars f", "f is a file"),
        ("report STORE -o f/r.html", "f/r.html cannot be written"),
        ("report STORE -o d", "d is a folder"),
        ("report BLOCKED", "report.html is a folder"),
        ("potential screen STORE -o f", "f is a file"),
    ],
)
def test_so_do_commands_that_read_a_store(command, message, run, inputs, initialised, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the work was begun")

    for work in (
        "pipelines.cli.export_files.measured_entries",
        "pipelines.analyses.run_analysis",
        "pipelines.report.collect.collect",
        "pipelines.potentials.superionic_screen.candidates",
    ):
        monkeypatch.setattr(work, never)
    if "BLOCKED" in command:
        shutil.copytree(initialised, inputs / "BLOCKED")
        (inputs / "BLOCKED" / "report.html").mkdir()
    with pytest.raises(UserError) as caught:
        run(command.replace("STORE", str(initialised)))
    assert message in str(caught.value)


def test_it_is_one_line_and_exit_code_2(inputs, monkeypatch):
    monkeypatch.chdir(inputs)
    result = gnome("potential", "md", "LiF.cif", "-o", "run.traj")
    assert result.returncode == 2
    assert result.stderr == "gnome: --output run.traj: must end in .parquet or .extxyz or .xyz\n"


def test_compositions_and_models_make_their_folders(inputs, run):
    run("compositions LiF -o new1/deep/c.txt")
    assert (inputs / "new1/deep/c.txt").read_text() == "LiF\n"
    run("predict LiF.cif -o new2/deep/x.csv")
    assert (inputs / "new2/deep/x.csv").exists()


@pytest.mark.parametrize("stem", ["tuned", "kept"])
def test_molecular_dynamics_leaves_every_file_of_the_user_alone(stem, inputs, run):
    """Beside the output lie the potential itself, data, and a file with a key "digest"."""
    for ending in ("npz", "json"):
        shutil.copy(Path(shipped_path("pretrained")).with_suffix(f".{ending}"), inputs / f"tuned.{ending}")
    np.savez(inputs / "data.npz", a=1)
    np.savez(inputs / "kept.npz", digest="x", a=1)
    before = {path.name: path.read_bytes() for path in inputs.glob("*.npz")}
    run(f"potential md LiF.cif -o {stem}.extxyz --potential tuned.npz --config md.toml")
    assert {path.name: path.read_bytes() for path in inputs.glob("*.npz")} == before
    assert (inputs / f"{stem}.extxyz").exists()
    assert not (inputs / ".checkpoints").exists()


def test_a_full_disk_leaves_the_old_file_and_is_one_line(inputs, run):
    with pytest.raises(UserError, match=r"^/dev/full cannot be written: no space left on device; name another place$"):
        run("compositions LiF -o /dev/full")
    (inputs / "old.txt").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"^old\.txt cannot be written: file too large"):
            run("compositions --elements Li,Mn,Fe,Co,Ni,P,S,O -o old.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (inputs / "old.txt").read_text() == "old"
    assert [path.name for path in inputs.iterdir() if path.name.startswith(".")] == []


def test_what_is_written_can_go_to_a_pipe():
    result = gnome_process("compositions", "LiF", "-o", "/dev/stdout")
    assert result.returncode == 0, result.stderr
    assert "LiF\n" in result.stdout
