"""gnome_core <- dft <- pipelines, read from the syntax trees; and where the heavy libraries may be imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BARE = ("models", "graphs", "ensembles", "training", "potentials")  # must run on a machine with only jax and friends


def imported(path: Path) -> set[str]:
    """Modules that the file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(folder: str, *forbidden: str, exempt: tuple[str, ...] = ()) -> list[str]:
    """Files below `folder` that import a forbidden package or one of its modules."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in exempt
        for name in sorted(imported(path))
        if any(name == package or name.startswith(package + ".") for package in forbidden)
    ]


def test_arrows_point_one_way():
    assert importers("gnome_core", "dft", "pipelines", "apache_beam") == []
    assert importers("dft", "pipelines", "apache_beam") == []


@pytest.mark.parametrize("room", BARE)
def test_bare_rooms_need_neither_pymatgen_nor_ase(room):
    exempt = ("gnome_core/potentials/ase_calculator.py",)
    assert importers(f"gnome_core/{room}", "pymatgen", "ase", exempt=exempt) == []


@pytest.mark.parametrize("package", ["gnome_core", "dft", "pipelines"])
def test_packages_import_nothing(package):
    """So that importing one cheap module never loads a heavy neighbour."""
    inits = (ROOT / package).rglob("__init__.py")
    assert [str(path) for path in inits if imported(path)] == []


def test_a_forbidden_import_is_seen(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("def f():\n    from pymatgen.core import Structure\n    import ase.io\n")
    assert {"pymatgen.core", "ase.io"} <= imported(source)
