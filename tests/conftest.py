"""Settings shared by all tests."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Compiling is most of the time of small networks: keep it between runs, and for the processes that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# XLA reports an "error" for each program that it reads back; see pipelines.beam.environment.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="module")
def quickly_compiled() -> Generator[None]:
    """Programs without most of XLA's optimisations, for small networks that are compared with themselves: compiling
    takes half the time, and is most of theirs."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # the tests that follow in this process compile their own
