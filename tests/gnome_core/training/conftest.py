"""Trainings of networks so small that compiling them takes longer than running them."""

from collections.abc import Generator

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def compiled_in_half_the_time() -> Generator[None]:
    """Without most of XLA's optimisations: trainings here are compared with each other, and rounds train with them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # what is compiled so is not for the tests that follow in this process
