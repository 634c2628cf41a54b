"""Settings shared by all tests."""

import os
from collections.abc import Generator
from pathlib import Path

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
