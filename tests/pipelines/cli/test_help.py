"""What `gnome` says of itself: help in panels, version, completion in a shell."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipelines.cli.app import PANELS, app
from tests.conftest import ROOT


def test_commands_are_listed_once_each_in_panels_in_their_order():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100", "TERM": "dumb"}).stdout
    lines = [re.match(r"╭─ ([A-Z][\w ]*?) ─|│ ([a-z][a-z-]*) ", line) for line in shown.splitlines()]
    said = [found[1] or found[2] for found in lines if found]
    assert said[0] == "Options"
    assert said[1:] == [word for panel, commands in PANELS.items() for word in (panel, *commands)]
    assert sorted(get_command(app).commands) == sorted(name for commands in PANELS.values() for name in commands)


def test_h_is_help():
    """That every command knows it is held by test_app.py, which asks all of them."""
    for words in ((), ("round", "run"), ("runners",)):
        short, long = (CliRunner().invoke(app, [*words, option]) for option in ("-h", "--help"))
        assert short.exit_code == 0
        assert short.stdout == long.stdout != ""


def test_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.stdout) == (0, f"{project['name']} {project['version']}\n")


@pytest.mark.parametrize(
    ("shell", "variables", "offered"),
    [
        ("bash", {"COMP_WORDS": "gnome round re", "COMP_CWORD": "2"}, ["resume"]),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "gnome round re"}, ["resume"]),
        ("fish", {"_TYPER_COMPLETE_ARGS": "gnome round re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, ["resume"]),
        ("bash", {"COMP_WORDS": "gnome export --st", "COMP_CWORD": "2"}, ["--stable"]),
    ],
)
def test_shells_complete_commands_and_options(shell, variables, offered):
    """As the scripts of `gnome --show-completion` ask."""
    command = str(Path(sys.executable).with_name("gnome"))
    environment = {**os.environ, "_GNOME_COMPLETE": f"complete_{shell}", **variables}
    answer = subprocess.run([command], capture_output=True, text=True, timeout=60, env=environment)
    assert answer.returncode == 0, answer.stderr
    assert re.findall(r"(?<![\w`-])(?:--)?[a-z]+(?![\w-])", answer.stdout)[: len(offered)] == offered
