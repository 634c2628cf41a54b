"""jaxlib 0.10.2 silently returns wrong numbers on the CPU (jax-ml/jax#39103). A stack with the fault must not pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("n_edges", [16_384, 32_768, 32_769])
def test_squared_edge_lengths_are_right(n_edges):
    # The shape in which crystal code meets the fault: a matrix times a row per edge, then a reduction.
    rows = np.zeros((n_edges, 3), np.float32)
    rows[:, 0] = np.arange(n_edges)
    cell = jnp.eye(3)
    got = jax.jit(lambda rows: jax.vmap(lambda row: jnp.sum((cell @ row) ** 2))(rows))(rows)
    wrong = np.flatnonzero(~np.isclose(got, np.arange(n_edges, dtype=np.float64) ** 2, rtol=1e-3))
    assert not len(wrong), (
        f"jax {jax.__version__} computes wrong edge lengths on this machine (edge {wrong[:1]} of {n_edges}; "
        "jax-ml/jax#39103): install jax 0.10.1 or 0.12"
    )
