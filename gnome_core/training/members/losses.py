"""Losses on the formation energy per atom."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from gnome_core.models.layers import Array

HUBER_DELTA = 0.1  # eV/atom: errors below it count by their square


def energy_loss(name: str, predicted: jax.Array, labels: Array, weights: Array) -> jax.Array:
    """Weighted mean over graphs of the "mae" or "huber" loss, eV/atom. Arrays of one shape; padding has weight 0."""
    error = predicted - labels
    # Huber's loss is divided by its delta, so that both losses have the same slope far out.
    values = jnp.abs(error) if name == "mae" else optax.losses.huber_loss(error, delta=HUBER_DELTA) / HUBER_DELTA
    return jnp.sum(values * weights) / jnp.sum(weights)
