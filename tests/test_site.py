"""The documentation site: nothing undocumented, nothing outside the navigation, no link that leads nowhere."""

import inspect
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipelines.rounds.config import RoundConfig
from pipelines.rounds.presets import PRESETS
from tests.conftest import ROOT
from tools.site import reference

CONFIG = (ROOT / "mkdocs.yml").read_text()


def nav(item: object) -> list[str]:
    if isinstance(item, str):
        return [item]
    return [page for value in (item.values() if isinstance(item, dict) else item) for page in nav(value)]


PAGES = nav(yaml.safe_load(CONFIG)["nav"])


def test_every_page_is_in_the_navigation_once():
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    made = {f"notebooks/{path.stem}.md" for path in (ROOT / "docs" / "notebooks").glob("*.py")} | set(reference.PAGES)
    assert sorted((written | made) - set(PAGES)) == []
    assert len(PAGES) == len(set(PAGES))


@pytest.mark.parametrize(
    ("name", "function"), [pytest.param(name, function, id=name) for name, function in reference.public()]
)
def test_every_public_function_is_documented(name, function):
    text = inspect.getdoc(function) or ""
    assert len(text) > 40
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    # What all functions take is told once, at the top of the page; `arrow` at the class.
    told = {"crystals", "items", "structure", "path", "arrow"}
    untold = [p.name for p in parameters if p.name not in told and not re.search(rf"\b{p.name}\b", text)]
    assert untold == []


def test_the_page_of_python_has_every_public_name():
    page = reference.python()
    assert all(f"\n## {name}\n" in page for name, _ in reference.public())


def test_the_page_of_settings_has_every_key_with_its_default():
    page = reference.settings()
    rounds = page.split("## round.toml")[1].split("## potential.toml")[0]

    def check(model: BaseModel) -> int:
        n = 0
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if isinstance(value, BaseModel):
                n += check(value)
                continue
            shown = re.findall(rf"^\| `{name}` \| `(.*?)` \| (.*?) \| (.*) \|$", rounds, re.M)
            assert shown, name
            assert field.description
            if isinstance(value, bool):
                assert str(value).lower() in {default for default, _, _ in shown}
            elif isinstance(value, int | float):
                assert value in {tomllib.loads(f"x = {d}")["x"] for d, _, _ in shown if re.match(r"[-\d]", d)}, name
            n += 1
        return n

    assert check(RoundConfig()) > 100
    for name, preset in PRESETS.items():
        block = page.split(f"**{name}**: ")[1].split("```toml\n")[1].split("```")[0]
        assert tomllib.loads(block) == preset.values


def test_the_page_of_commands_has_every_command():
    import typer

    from pipelines.cli.app import app

    page = reference.commands()

    def check(name: str, command) -> int:
        children = getattr(command, "commands", {})
        assert f"\n### {name}\n" in page or name == "gnome"
        return 1 + sum(check(f"{name} {inner}", child) for inner, child in children.items())

    assert check("gnome", typer.main.get_command(app)) > 40
    assert "......" not in page


def test_columns_have_their_units():
    page = reference.tables()
    frames = page.split("## Frames")[1].split("\n## ")[0]
    assert "| `forces` | list<element: double> |  | eV/angstrom | 3n |" in frames
    hull = page.split("## Hull")[1].split("\n## ")[0]
    assert "| `e_above_hull` | double |  |  | against the hull of all entries |" in hull
    assert "Energies are eV/atom." in hull


def links(path: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


# Pages of the site that are made when it is built.
MADE = re.compile(r"(notebooks|reference)/\w+\.md$")


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere_in_the_repository(path):
    missing = [
        link
        for link in links(path)
        if (target := link.partition("#")[0]) and not (path.parent / target).exists() and not MADE.search(target)
    ]
    assert missing == []


@pytest.mark.skipif(
    find_spec("material") is None, reason="mkdocs-material is not installed; `pip install -e '.[docs]'`"
)
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    for page in PAGES:
        built = page.removesuffix("README.md").removesuffix("index.md").removesuffix(".md")
        assert (tmp_path / "site" / built / "index.html").is_file(), page
