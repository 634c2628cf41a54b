"""Gaussian bases of edge lengths and of other scalars."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def gaussian_basis(lengths: jax.Array | np.ndarray, n_basis: int, cutoff: float, width: float) -> jax.Array:
    """exp(-((r - r_k) / width)^2) for n_basis centres from 0.05 Å to the cutoff: (e,) -> (e, n_basis).

    GNoME's basis has 30 centres and width 0.5 Å. It has no envelope: energies jump as an edge crosses the cutoff, so
    no forces may be taken from it.
    """
    return gaussians(lengths, jnp.linspace(0.05, cutoff, n_basis), width)


def gaussians(values: jax.Array | np.ndarray, centres: jax.Array, width: float) -> jax.Array:
    """exp(-((x - c) / width)^2): (n,), (k,) -> (n, k)."""
    return jnp.exp(-jnp.square((values[:, None] - centres) / width))


def bessel_basis(lengths: jax.Array, frequencies: jax.Array, cutoff: float) -> jax.Array:
    """2/r_c sin(f r / r_c) / r for each frequency f (pi, 2 pi, ... at the start): (...,) -> (..., n).

    Gasteiger et al., arXiv:2003.03123, with the prefactor of GNoME's NequIP. Lengths must not be zero.
    """
    r = lengths[..., None]
    return 2 / cutoff * jnp.sin(frequencies * r / cutoff) / r


def xplor_envelope(lengths: jax.Array, onset: float, cutoff: float) -> jax.Array:
    """1 up to `onset`, 0 from `cutoff` on, smooth to the first derivative between (XPLOR): (...,) -> (...,)."""
    r2, on2, off2 = jnp.square(lengths), onset**2, cutoff**2
    inside = jnp.square(off2 - r2) * (off2 + 2 * r2 - 3 * on2) / (off2 - on2) ** 3
    return jnp.where(lengths < onset, 1.0, jnp.where(lengths < cutoff, inside, 0.0))


def polynomial_envelope(lengths: jax.Array, power: float, cutoff: float) -> jax.Array:
    """1 at 0, 0 from `cutoff` on, smooth to its second derivative. Gasteiger et al., arXiv:2003.03123, eq. 8."""
    x, p = lengths / cutoff, power
    inside = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return jnp.where(x < 1, inside, 0.0)
