"""Several devices of this process that share every step: each has its own parts of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def along_axis(function: Callable, *trees: Any) -> Any:
    """`function` of every slice along the first axis, as vmap does; one slice alone is taken out of its axis, since
    XLA's gathers and scatters are slower with it."""
    if jax.tree.leaves(trees)[0].shape[0] > 1:
        return jax.vmap(function)(*trees)
    result = function(*jax.tree.map(lambda leaf: leaf[0], trees))
    return jax.tree.map(lambda leaf: leaf[None], result)


def placement(devices: int, axis: int) -> Callable[[Any], Any]:
    """Puts a step's arrays where they are used, their parts (along `axis`) divided among so many local devices.

    Raises ValueError where there are fewer.
    """
    if devices == 1:
        return lambda step: step
    if devices > jax.local_device_count():
        raise ValueError(f"training.devices = {devices}, but this process has {jax.local_device_count()}")
    mesh = Mesh(np.array(jax.local_devices()[:devices]), ("parts",))
    parts = NamedSharding(mesh, PartitionSpec(*[None] * axis, "parts"))
    return lambda step: jax.device_put(step, parts)
