import resource
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pipelines.cli.app import app\n"
        "from typer.testing import CliRunner; assert CliRunner().invoke(app, ['round', '--help']).exit_code == 0\n"
        "print([m for m in ('apache_beam', 'jax', 'pyarrow', 'pymatgen', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("round", "run", "nowhere"), "nowhere is not a store; make one with `gnome init nowhere`"),
        (("round", "resume", "nowhere"), "is not a store"),
        (("init", "new", "--config", "none.toml"), "none.toml: no such file"),
        (("init", "new", "--snapshot", "none.parquet"), "none.parquet"),
        (("init", "s3://bucket/x"), "local folder"),
        (("init", "new", "--", "--runner=DaskRunner"), "DaskRunner"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gnome(*arguments)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("gnome: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.stderr


def test_config_prints_toml():
    result = gnome("config")
    assert result.returncode == 0
    assert "[selection]" in result.stdout
