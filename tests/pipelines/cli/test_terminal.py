"""Names of files and entries on the terminal, whatever they are."""

import io

import pyarrow as pa
import pytest
from rich.table import Table

from gnome_core.crystals.crystal import Crystal
from pipelines.cli.model_text import write_predictions
from pipelines.cli.terminal import Terminal, printable

NAMES = ["LiF[relaxed]", "p[/b]", "[bold red]x[/]", "[/", "a\\\\[b]", ":smile:", "NaCl[link=file:///]x"]


def shown(what) -> str:
    out = io.StringIO()
    Terminal(file=out, soft_wrap=True).print(what)
    return out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_brackets_are_no_markup_in_lines_tables_and_titles(name):
    assert shown(name) == f"{name}\n"
    table = Table(name, "b", title=f"all of {name}")
    table.add_row(f"r{name}", "1")
    text = shown(table)
    assert text.count(name) == 3


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\x1b]0;title\x07b", "a\rb", "a\u202eb", "a\x9b2Jb", "a\x08b"])
def test_control_characters_do_not_reach_the_screen(name):
    table = Table("id")
    table.add_row(name)
    for text in (shown(name), shown(table), printable(name)):
        assert "a?" in text
        assert not any(c in text for c in "\x1b\x07\r\u202e\x9b\x08")


def test_tables_in_files_and_pipes_are_not_cut(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(*(f"column-{i}-with-a-long-name" for i in range(5)))
    assert "column-4-with-a-long-name" in shown(table).splitlines()[1]


def test_predictions_are_printed_under_the_names_of_their_files(capsys):
    ids = ["LiF", *NAMES]
    write_predictions(pa.table({"id": ids, "formula": ["LiF"] * len(ids), "e_form_per_atom": [-3.0] * len(ids)}), None)
    out = capsys.readouterr().out
    assert all(f" {id_} " in out for id_ in ids)


def test_an_entry_is_shown_under_its_own_name(tmp_path, monkeypatch, capsys):
    """`gnome show STORE 'NaCl[relaxed]'`: the id, the formula and the ancestry."""
    from pipelines.cli import show_text
    from pipelines.reading import explained

    row = {
        "id": "NaCl[relaxed]", "job": None, "formula": "NaCl[/]", "numbers": [11, 17], "round": 0, "scale": "a[b]",
        "e_form_per_atom": -2.0, "e_above_hull": 0.1, "e_above_hull_others": None, "on_hull": False,
        "e_above_mp_hull": None, "p_stable": None, "novelty": "known structure", "novelty_source": "a[b]",
        "ground_state": "NaCl[relaxed]", "e_above_ground_state": 0.0,
    }  # fmt: skip

    class Hull:
        ids = pa.array(["NaCl[relaxed]"])
        compositions = staticmethod(lambda rows: rows)
        decomposition = staticmethod(lambda composition: [])

    store = type("Store", (), {"root": "x"})()
    monkeypatch.setattr(show_text, "measured_entries", lambda _: pa.Table.from_pylist([row]).replace_schema_metadata())
    monkeypatch.setattr(explained, "newest_hull", lambda _: (0, 0))
    monkeypatch.setattr(explained, "hull_until", lambda *_: Hull)
    monkeypatch.setattr(explained, "decomposition_reaction", lambda *_: "A[x] -> B")
    monkeypatch.setattr(explained, "ancestries", lambda *_: [[{"round": 0, **row}]])
    monkeypatch.setattr(explained, "recipes_of_jobs", lambda *_: {})
    show_text.print_entry(store, "NaCl[relaxed]")
    out = capsys.readouterr().out
    assert "NaCl[relaxed]  NaCl[/]  2 sites  round 0" in out
    assert "on a[b]" in out
    assert "decomposes         A[x] -> B" in out
    assert "from NaCl[relaxed]  NaCl[/]" in out


def test_crystals_in_files_with_brackets_are_predicted_and_left_out_by_name(tmp_path):
    """From end to end: a name that is markup, one that is broken markup, one in a folder with a bracket."""
    from gnome_core.crystals.cif import format_cif
    from tests.pipelines.conftest import gnome_process

    salt = format_cif(Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0] * 3, [0.5] * 3], [11, 17]), "x")
    (tmp_path / "c" / "p[").mkdir(parents=True)
    for name in ("NaCl.cif", "NaCl[relaxed].cif", "p[/b].cif"):
        path = tmp_path / "c" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(salt)
    result = gnome_process("predict", str(tmp_path / "c"), COLUMNS="200")
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in ("NaCl[relaxed]", "b]"))
