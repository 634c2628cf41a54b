"""What a process is given before Beam and jax are loaded: where logs go, where compiled programs are kept.

Workers inherit it: environment variables as they are, logs by `pipelines.worker`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from pathlib import Path

VERBOSE = "GNOME_VERBOSE"


def set_up(verbose: bool) -> None:
    """Show errors only, or with `verbose` all that Beam, jax and XLA report; keep compiled programs on disk.

    What the user's environment says of either stands.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compilation_cache())
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    if verbose:
        os.environ[VERBOSE] = "1"
    else:
        # XLA reports at "error" what it then does without; what stops it raises in Python.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def compilation_cache() -> Path:
    """Folder of programs compiled for this machine's kind of processor, below the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "gnome-flywheel", "jax", hashlib.blake2b(_processor().encode(), digest_size=4).hexdigest())


def _processor() -> str:
    """What a program is compiled for: home folders are shared by machines that cannot run each other's programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "|".join([platform.machine(), platform.processor(), *features[:2]])
