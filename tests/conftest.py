"""Settings shared by all tests."""

import os
from pathlib import Path

from pipelines.beam.compiled import check_programs

ROOT = Path(__file__).resolve().parents[1]

# Compiling is most of the time of small networks: keep it between runs, and for the processes that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# XLA reports an "error" for each program that it reads back; see pipelines.beam.environment.
check_programs()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
