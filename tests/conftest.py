"""Settings shared by all tests."""

import importlib
import os
import sys
import tomllib
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.beam.compiled import check_programs

ROOT = Path(__file__).resolve().parents[1]

# Compiling is most of the time of small networks: keep it between runs, and for the processes that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# XLA reports an "error" for each program that it reads back; see pipelines.beam.environment.
check_programs()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Files that take most of a minute or more, the longest first: one that began last would be waited for by idle cores.
LONGEST = (
    "pipelines/rounds/test_driver.py",
    "dft/test_standin_round.py",
    "pipelines/rounds/test_soak.py",
    "pipelines/cli/test_interrupts.py",
    "pipelines/store/test_bucket.py",
    "pipelines/rounds/test_potential_round.py",
    "dft/vasp/test_vasp.py",
    "gnome_core/potentials/test_md.py",
    "gnome_core/training/potential/test_loop.py",
    "gnome_core/training/members/test_loop.py",
    "pipelines/stages/test_generate.py",
    "pipelines/evaluation/test_confirming.py",
    "dft/espresso/test_espresso.py",
    "pipelines/test_analyses.py",
    "pipelines/cli/test_relax.py",
    "pipelines/cli/test_app.py",
    "pipelines/cli/test_potential.py",
    "gnome_core/models/test_nequip.py",
    "gnome_core/potentials/test_shipped.py",
    "gnome_core/potentials/test_nequix.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(LONGEST)))


@pytest.fixture(scope="module")
def quickly_compiled() -> Generator[None]:
    """Programs without most of XLA's optimisations, for small networks that are compared with themselves: compiling
    takes half the time, and is most of theirs. Also in the processes that tests start. Not for modules that may be the
    first to ask for a store of the whole run: others compare theirs with it, bit by bit."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # the tests that follow in this process compile their own


@pytest.fixture
def pauling(tmp_path_factory, monkeypatch) -> ModuleType:
    """The module of examples/pauling, under its entry point, as `pip install examples/pauling` would leave it."""
    example = ROOT / "examples" / "pauling"
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    installed = tmp_path_factory.mktemp("installed")
    metadata = installed / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    named = (f"Name: {project['name']}", f"Version: {project['version']}")
    (metadata / "METADATA").write_text("\n".join(("Metadata-Version: 2.1", *named, "")))
    points = (
        f"[{group}]\n{name} = {place}\n"
        for group, offered in project["entry-points"].items()
        for name, place in offered.items()
    )
    (metadata / "entry_points.txt").write_text("".join(points))
    for folder in (installed, example):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "pauling", raising=False)
    return importlib.import_module("pauling")
