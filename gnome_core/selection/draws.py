"""Random choices that depend on a row and a seed alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa


def draws(keys: pa.Array, seed: int) -> pa.Array:
    """(n,) uint64, uniform: the hash of seed and key, so equal keys draw equally, on any worker and in any order."""
    salt = str(seed).encode() + b"|"
    values = (key.encode() if isinstance(key, str) else key for key in keys.to_pylist())
    hashes = b"".join(hashlib.blake2b(salt + value, digest_size=8).digest() for value in values)
    return pa.array(np.frombuffer(hashes, "<u8"))
