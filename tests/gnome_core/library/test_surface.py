"""What `import gnome_core` promises: a short list, loaded when it is first used."""

import ast
import inspect
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import gnome_core
import pipelines

HEAVY = ("jax", "pymatgen", "ase", "pandas", "pyarrow", "apache_beam", "scipy", "numpy")


def test_importing_is_cheap_and_loads_nothing():
    code = (
        "import time, sys; begin = time.process_time(); import gnome_core, pipelines; "
        "print(time.process_time() - begin, [n for n in sys.argv[1:] if n in sys.modules], dir(gnome_core))"
    )
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    seconds, _, rest = done.stdout.partition(" ")
    assert float(seconds) < 0.3
    assert rest.startswith("[] ")
    assert all(name in rest for name in gnome_core.__all__)


@pytest.mark.parametrize("package", [gnome_core, pipelines])
def test_what_is_promised_is_there_documented_and_known_to_type_checkers(package):
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name))
        assert name in dir(package)
    tree = ast.parse(Path(package.__file__).read_text())
    named = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert named - {None} == set(package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'; it has"):
        package.nothing  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    assert gnome_core.__version__ == metadata.version("gnome-flywheel")


def test_every_public_function_is_on_the_page():
    page = (Path(__file__).parents[3] / "docs" / "library.md").read_text()
    assert [name for name in gnome_core.__all__ if name not in page] == []
