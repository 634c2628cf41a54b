"""Rooms and floors, read from the syntax trees and held against the architecture page; where heavy libraries may be."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gnome_core", "dft", "pipelines")
BARE = ("models", "graphs", "ensembles", "training", "potentials")  # must run on a machine with only jax and friends
TOP = {
    "__init__.py",
    "errors.py",
    "logs.py",
    "analyses.py",
    "library.py",
}  # the files of pipelines/ that are no folder's


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


def import_graph(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of the three packages below `root` that it imports."""
    paths = {
        ".".join(p.relative_to(root).with_suffix("").parts): p for name in PACKAGES for p in (root / name).rglob("*.py")
    }
    return {module: {name for name in imported(path) if name in paths} for module, path in paths.items()}


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Circles of imports, each as "a -> b -> a"; none if modules can be put in an order."""
    left, found = {module: set(names) for module, names in graph.items()}, []
    while left:
        free = {module for module, names in left.items() if not names & left.keys()}
        if not free:  # every module that is left leads to one that is left: walk until one comes again
            walk = [min(left)]
            while (step := min(left[walk[-1]] & left.keys())) not in walk:
                walk.append(step)
            found.append(" -> ".join([*walk[walk.index(step) :], step]))
            free = {step}
        for module in free:
            del left[module]
    return found


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def floors(page: str) -> dict[str, int]:
    """Room -> its floor in the architecture page's block; a room may import from lower floors alone."""
    block = re.search(r"```rooms\n(.*?)```", page, re.S)
    assert block, "CONTRIBUTING.md has no block of rooms"
    rooms = {}
    for floor, line in enumerate(block[1].strip().splitlines()):
        package, _, names = line.partition(": ")
        rooms |= {f"{package}.{name}": floor for name in names.split(", ")}
    return rooms


def wrong_arrows(graph: Mapping[str, set[str]], floor: Mapping[str, int]) -> list[str]:
    """Rooms that the page does not name, and imports that go up or stay on a floor."""
    rooms = {room_of(module) for module in graph if not room_of(module).endswith((".__init__", ".data"))}
    wrong = [f"{room} is not on the architecture page" for room in sorted(rooms - floor.keys())]
    for module, names in sorted(graph.items()):
        own = room_of(module)
        others = ((name, room_of(name)) for name in sorted(names))
        wrong += [
            f"{module} imports {name}"
            for name, other in others
            if own != other and own in floor and floor.get(other, -1) >= floor[own]
        ]
    return wrong


def test_arrows_point_one_way():
    assert importers("gnome_core", "dft", "pipelines", "apache_beam") == []
    assert importers("dft", "pipelines", "apache_beam") == []


def test_arrows_between_rooms_are_those_of_the_architecture_page():
    assert wrong_arrows(import_graph(ROOT), floors((ROOT / "CONTRIBUTING.md").read_text())) == []


def test_there_is_no_circle_of_imports():
    assert circles(import_graph(ROOT)) == []


def test_pipelines_has_its_rooms_and_no_drawer():
    assert {path.name for path in (ROOT / "pipelines").glob("*.py")} == TOP


def test_planted_faults_are_found(tmp_path):
    """What the three guards above look for, in a small tree of its own."""
    for name, text in {
        "gnome_core/crystals/crystal.py": "from gnome_core.models import network\n",
        "gnome_core/models/network.py": "def f():\n    from gnome_core.crystals.crystal import Crystal\n",
        "gnome_core/models/layers.py": "import gnome_core.crystals.crystal\n",
        "gnome_core/drawer/things.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = import_graph(tmp_path)
    page = "```rooms\ngnome_core: crystals\ngnome_core: models\n```"
    crystal, network = "gnome_core.crystals.crystal", "gnome_core.models.network"
    assert circles(graph) == [f"{crystal} -> {network} -> {crystal}"]
    assert wrong_arrows(graph, floors(page)) == [
        "gnome_core.drawer is not on the architecture page",
        f"{crystal} imports {network}",
    ]


@pytest.mark.parametrize("room", BARE)
def test_bare_rooms_need_neither_pymatgen_nor_ase(room):
    exempt = ("gnome_core/potentials/ase_calculator.py",)
    assert importers(f"gnome_core/{room}", "pymatgen", "ase", exempt=exempt) == []


def loaded(path: Path) -> set[str]:
    """Modules that importing the file loads: `imported` but for what type checkers alone read."""
    tree = ast.parse(path.read_text())
    run = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for part in run
        for node in ast.walk(part)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", ["gnome_core", "dft", "pipelines"])
def test_packages_import_nothing(package):
    """So that importing one cheap module never loads a heavy neighbour; what loads what is asked for is no such."""
    inits = (ROOT / package).rglob("__init__.py")
    assert [str(path) for path in inits if loaded(path) - {"importlib", "typing"}] == []


def test_a_forbidden_import_is_seen(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("def f():\n    from pymatgen.core import Structure\n    import ase.io\n")
    assert {"pymatgen.core", "ase.io"} <= imported(source)
