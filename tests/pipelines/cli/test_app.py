import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from dft.jobs.engine import EngineMissing
from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.convert import to_atoms
from gnome_core.crystals.crystal import Crystal
from gnome_core.errors import GnomeError
from gnome_core.potentials.frames import BadFrames
from gnome_core.training.epochs import TrainingDiverged
from pipelines.cli import app
from pipelines.errors import StoreError
from tests.pipelines.conftest import gnome as gnome_here

GNOME = str(Path(sys.executable).with_name("gnome"))


def gnome(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GNOME, *arguments], capture_output=True, text=True, timeout=120)


def test_help_answers_within_a_second():
    gnome("--help")  # byte code is compiled once
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert gnome("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Seconds of the processor: what else the machine does is not the command's fault.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 1.0


ALL_HELP = """
import sys
from typer.main import get_command
from typer.testing import CliRunner
from pipelines.cli.app import app

def ask(command, words):
    assert CliRunner().invoke(app, [*words, "-h"]).exit_code == 0, words
    store = ["STORE"] if words == ["analyse"] else []
    return 1 + sum(ask(c, [*words, *store, name]) for name, c in getattr(command, "commands", {}).items())

asked = ask(get_command(app), [])
print(asked > 50, [m for m in ("apache_beam", "jax", "pyarrow", "pymatgen", "numpy") if m in sys.modules])
"""


def test_help_of_every_command_imports_nothing_heavy():
    result = subprocess.run([sys.executable, "-c", ALL_HELP], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True []"


@pytest.mark.parametrize(
    "command",
    [
        "predict x.cif --framework both",
        "predict x.cif --over-volumes mean",
        "evaluate x.parquet --split test",
        "export store --format xls",
        "analyse store growth --format xls",
        "dft submit store --to pbs",
        "replay x.parquet out --holdout all",
    ],
)
def test_a_choice_that_there_is_not_is_named_before_anything_is_read(command):
    result = gnome(*command.split())
    assert result.returncode == 2
    assert f"'{command.split()[-1]}'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("round", "run", "nowhere"), "nowhere is not a store; make one with `gnome init nowhere`"),
        (("round", "resume", "nowhere"), "is not a store"),
        (("init", "new", "--config", "none.toml"), "none.toml: no such file"),
        (("init", "new", "--snapshot", "none.parquet"), "none.parquet"),
        (("init", "s3://bucket/x"), "local folder"),
        (("init", "new", "--", "--runner=DaskRunner"), "DaskRunner"),
        (("potential", "test", "garbage.npz", "bare.extxyz"), "garbage.npz: not a potential"),
        (("potential", "test", "stillinger-weber", "bare.extxyz"), "bare.extxyz: configuration 0: "),
        (("potential", "test", "stillinger", "bare.extxyz"), "no potential 'stillinger'; there are: "),
        (("predict", "bare.cif", "--hull", "bare.cif"), "bare.cif has no labelled crystal"),
        (("init", "new", "--config", "utf16.toml"), "utf16.toml: not UTF-8"),
        (("init", "new", "--config", "deep.toml"), "deep.toml: not settings: its values are nested without end"),
        (("init", "bare.cif/new"), "bare.cif/new cannot be written: not a directory"),
        (("dft", "run", "new", "--jobs-file", "none.txt"), "none.txt: No such file"),
        (("compositions", "--elements", "Li,O", "-o", "bare.cif/all.txt"), "bare.cif/all.txt cannot be written: "),
        (("compositions", "--elements", "Li,O", "-o", "/dev/full"), "/dev/full cannot be written: no space left"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.npz").write_bytes(b"no arrays")
    (tmp_path / "utf16.toml").write_text("seed = 1", encoding="utf-16")
    (tmp_path / "deep.toml").write_text(f"seed = {'[' * 9_999}{']' * 9_999}")
    silicon = Crystal(2.7 * (np.ones((3, 3)) - np.eye(3)), [[0, 0, 0], [0.25] * 3], [14, 14])
    (tmp_path / "bare.cif").write_text(format_cif(silicon, "silicon"))  # neither has energies
    write(tmp_path / "bare.extxyz", to_atoms(silicon))
    result = gnome_here(*arguments)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("gnome: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("kind", [GnomeError, BadFrames, TrainingDiverged, EngineMissing, StoreError])
def test_every_error_of_the_project_is_one_line(kind, monkeypatch, capsys):
    def command():
        raise kind("frame 3: no forces; drop it")

    monkeypatch.setattr(app, "app", command)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "gnome: frame 3: no forces; drop it\n"


@pytest.mark.parametrize("defect", [ValueError("shapes differ"), OSError("no file is named"), OSError(5, "I/O error")])
def test_a_defect_keeps_its_traceback(defect, monkeypatch, capsys):
    def command():
        raise defect

    monkeypatch.setattr(app, "app", command)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert f"{type(defect).__name__}: {defect}" in said


def test_config_prints_toml():
    result = gnome("config")
    assert result.returncode == 0
    assert "[selection]" in result.stdout


# As Beam raises again in the driver what a step raised: here, and from a process of its own.
WRAPPED = [
    (OSError(28, "No space left on device", "/s/part"), "/s/part: No space left on device"),
    (OSError(28, "No space left on device"), "No space left on device"),
    (OSError("[Errno 30] Read-only file system: '/s/part' [while running 'Write']"), "/s/part: Read-only file system"),
    (
        RuntimeError("Traceback ...\nPermissionError: [Errno 13] Permission denied: '/s/part'\n\nmore"),
        "/s/part: Permission denied",
    ),
]


@pytest.mark.parametrize(("error", "message"), WRAPPED, ids=range(len(WRAPPED)))
def test_what_the_machine_refuses_is_one_line_wherever_it_was_raised(error, message, monkeypatch, capsys):
    def command():
        raise error

    monkeypatch.setattr(app, "app", command)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"gnome: {message}\n"


def test_a_device_that_is_not_there_is_one_line(tmp_path):
    silicon = Crystal(2.7 * (np.ones((3, 3)) - np.eye(3)), [[0, 0, 0], [0.25] * 3], [14, 14])
    (tmp_path / "x.cif").write_text(format_cif(silicon, "silicon"))
    command = [GNOME, "predict", str(tmp_path / "x.cif")]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cuda"})
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("gnome: JAX_PLATFORMS = 'cuda': jax finds no such device here")
    assert result.stderr.count("\n") == 1


AFTER_A_PIPELINE = """
import apache_beam as beam
from pipelines.beam.runners import run_pipeline, runner_flags
from pipelines.cli import app
from pipelines.errors import UserError

def command():
    run_pipeline(runner_flags([]), lambda pipeline: pipeline | beam.Create([1]))
    print("ran")
    atexit.register(print, "left in order")
    raise {ending}

import atexit
app.app = command
app.main()
"""


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("SystemExit(0)", 0, ""),
        ("SystemExit(3)", 3, ""),
        ("UserError('mistake')", 2, "gnome: mistake\n"),
        ("ValueError('defect')", 1, "ValueError: defect\n"),
    ],
)
def test_all_ends_are_alike_once_pipelines_were_run(ending, code, said):
    source = AFTER_A_PIPELINE.format(ending=ending)
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (code, "ran\nleft in order\n"), result.stderr
    assert result.stderr.endswith(said)
    assert "terminate called" not in result.stderr
