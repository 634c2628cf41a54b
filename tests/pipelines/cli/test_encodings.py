"""Texts and names are UTF-8 in any locale; what is no UTF-8 is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.beam import environment
from pipelines.cli import app

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # no part of it is taken for UTF-8
LATIN_1 = b"caf\xe9"  # whoever's disk it comes from


def gnome(*arguments: str | bytes, **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(Path(sys.executable).with_name("gnome")), *arguments]
    return subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, **variables})


def test_names_go_in_and_out_in_a_locale_without_them(tmp_path):
    path = tmp_path / "störe 日本" / "é.txt"
    result = gnome("compositions", "LiF", "-o", str(path), **ASCII)
    assert result.returncode == 0, result.stderr
    assert path.read_text(encoding="utf-8") == "LiF\n"
    assert f"written to {path}\n".encode() in result.stdout
    none = gnome("show", "störe", **ASCII)
    assert none.stderr.decode().startswith("gnome: störe is not a store")


@pytest.mark.parametrize(
    "command",
    [
        (b"compositions", b"LiF", b"-o", LATIN_1),
        (b"predict", b"x.csv", b"-o", LATIN_1 + b".csv"),
        (b"init", LATIN_1),
        (b"predict", LATIN_1 + b".parquet", b"--framework", b"compositional"),
    ],
)
def test_names_that_are_not_utf8_are_said_in_one_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(LATIN_1) + ".parquet").write_bytes(b"PAR1")
    result = gnome(*command)
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(r"gnome: caf\udce9")
    assert line.endswith("this name is not UTF-8; choose another")
    assert [path.name for path in tmp_path.iterdir()] == ["caf\udce9.parquet"]


def test_a_text_that_another_encoding_lacks_is_a_defect(monkeypatch, capsys):
    monkeypatch.setattr(app, "app", lambda: "Å".encode("ascii"))
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 1
    assert "UnicodeEncodeError" in capsys.readouterr().err


@pytest.mark.parametrize(("locale", "told", "again"), [
    ("ISO-8859-1", None, True), ("ISO-8859-1", "0", True), ("ISO-8859-1", "1", False), ("utf-8", "0", False),
])  # fmt: skip
def test_the_process_begins_anew_at_most_once(locale, told, again, monkeypatch):
    """An interpreter that ignores PYTHONUTF8 (-I) must not begin for ever."""
    begun = []
    monkeypatch.setattr(environment.locale, "getencoding", lambda: locale)
    monkeypatch.setattr(os, "execv", lambda path, arguments: begun.append(arguments))
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    if told is not None:
        monkeypatch.setenv("PYTHONUTF8", told)
    environment.speak_utf8()
    assert begun == ([[sys.executable, *sys.orig_argv[1:]]] if again else [])
    assert os.environ.get("PYTHONUTF8") == ("1" if again else told)
