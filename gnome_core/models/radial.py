"""Radial bases of edge lengths."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def gaussian_basis(lengths: jax.Array | np.ndarray, n_basis: int, cutoff: float, width: float) -> jax.Array:
    """exp(-((r - r_k) / width)^2) for n_basis centres from 0.05 Å to the cutoff: (e,) -> (e, n_basis).

    GNoME's basis has 30 centres and width 0.5 Å. It has no envelope: energies jump as an edge crosses the cutoff, so
    no forces may be taken from it.
    """
    centres = jnp.linspace(0.05, cutoff, n_basis)
    return jnp.exp(-jnp.square((lengths[:, None] - centres) / width))
