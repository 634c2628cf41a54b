"""Memory that XLA frees and takes again in every step."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # malloc.h


def keep_freed_memory() -> None:
    """Let this process keep freed memory instead of giving it back to the system.

    A training step takes and frees some hundred megabytes, and so does a batch of a relaxation. glibc maps large blocks
    anew each time, and clearing their pages costs a third of the step (measured with 64 atoms, 3 layers of
    32x0e+32x1o+32x2e), up to half of the batch (64 crystals by CHGNet). `gnome` commands and the images begin with an
    allocator that needs it less. Does nothing elsewhere.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(parameter, value)
